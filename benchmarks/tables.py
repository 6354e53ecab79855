"""Tables: the same rows in every form a body may have, from a client's memory and back."""

import json
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.budgets import Verdict, at_least
from benchmarks.harness import LOAD_CORE, BenchFailed, pinned, running
from benchmarks.percentiles import medians
from benchmarks.sections import Effort, Section, kept
from benchmarks.servers import pack, serve
from benchmarks.wide_model import COLUMNS as INPUTS

ROWS = 100_000
LIMIT = at_least(10)
COLUMNS = ("form", "request MiB", "answer MiB", "end to end, s", "JSON's time over this")
_TEXT = (
    "{rows:,} rows of {columns} numbers to a linear model, one connection, one worker; client and "
    "server have a core each. The time is that from a numpy array in the client to the "
    "probabilities as one: writing the request, `/batch_predict`, reading the answer. JSON is "
    "written and read with Python's `json`, as most clients do, and with msgspec; Arrow and "
    "Parquet with pyarrow; CSV with Python itself."
)


@dataclass(frozen=True, slots=True)
class Told:
    """What one form took."""

    form: str
    request_mib: float
    answer_mib: float
    seconds: float


def tables(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("tables")
    pack("wide_model:Wide", "--name", "wide", "-o", str(folder / "models"))
    server = serve(folder / "models")
    rounds: list[Told] = []
    for number in range(effort.rounds):
        effort.tell(f"round {number + 1} of {effort.rounds}")
        with running(server, folder / "log"):
            rounds += _ask(f"{server.root_url}/batch_predict", effort.seconds)
    found = medians(rounds, labels=1)
    took = {one.form: one.seconds for one in found}
    says = f"{ROWS:,} rows of {len(INPUTS)} numbers: JSON's time end to end over Arrow's"
    return Section(
        "Tables",
        _TEXT.format(rows=ROWS, columns=len(INPUTS)),
        COLUMNS,
        [
            (
                one.form,
                f"{one.request_mib:.1f}",
                f"{one.answer_mib:.1f}",
                f"{one.seconds:.3f}",
                f"{took['JSON'] / one.seconds:.1f}",
            )
            for one in found
        ],
        [Verdict(says, LIMIT, took["JSON"] / took["Arrow"])],
        labels=1,
        data=kept(found, rounds),
    )


def _ask(url: str, seconds: float) -> list[Told]:
    argv = [sys.executable, "-m", "benchmarks.table_client", url, str(ROWS), str(seconds)]
    done = subprocess.run([*pinned(LOAD_CORE), *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"the client failed: {done.stderr.strip()[-500:]}")
    return [
        Told(form, sent / 2**20, got / 2**20, took)
        for form, sent, got, took in json.loads(done.stdout)
    ]
