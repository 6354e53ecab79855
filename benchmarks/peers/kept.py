"""What was kept of the last run of the peers, as a section of the results.

Measuring the peers takes long and installs much, so it has a command of its own. Every run of
the benchmarks judges its numbers again, with the budgets of today.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from benchmarks.budgets import Verdict
from benchmarks.conditions import busy, others
from benchmarks.harness import Measurement
from benchmarks.peers.budgets import BUDGETS, judge_peers
from benchmarks.peers.measuring import Failure
from benchmarks.peers.report import Served
from benchmarks.peers.table import FORETELL, ONNX, load_name, server_name
from benchmarks.sections import Effort, Section

FILE = Path(__file__).resolve().parents[1] / "peers.json"
TITLE = "Foretell and its peers"
COLUMNS = (
    "server",
    "CPU µs/request, 32 connections",
    "CPU, × Foretell",  # noqa: RUF001
    "p50 ms, 1 connection",
)
_TEXT = (
    "These numbers are of **another run** than the rest of this page: of {date}, on {cpu}, with "
    "`{command}`, {rounds} rounds of {seconds} s. Every server serves the same ONNX file with one "
    "worker on one core. [PEERS.md](PEERS.md) says how each is served, and tells of more loads, of "
    "the scikit-learn model, and of what failed."
)
_LACKING = (
    "Nothing is known of the peers: {why}. `make peers` measures them and keeps the numbers for "
    "the next run."
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is read of the machine."""

    date: str
    cpu: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What is read of peers.json."""

    command: str
    machine: Machine
    rounds: int
    seconds_per_measurement: int
    servers: Sequence[Served]
    failures: Sequence[Failure]
    medians: Sequence[Measurement]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row for each server, the cheapest first; what was not measured is left blank."""
        numbers = {(one.server, one.load): one for one in self.medians}
        ours = numbers.get((server_name(FORETELL, ONNX), load_name(32)))
        found: list[tuple[float, tuple[str, ...]]] = []
        for served in self.servers:
            name = server_name(served.name, ONNX)
            busy, alone = (numbers.get((name, load_name(n))) for n in (32, 1))
            cells = (
                f"{busy.cpu_us:,.1f}" if busy else "",
                f"{busy.cpu_us / ours.cpu_us:.1f}" if busy and ours else "",
                f"{alone.p50_ms:,.2f}" if alone else "",
            )
            found.append((busy.cpu_us if busy else float("inf"), (served.name, *cells)))
        yield from (row for _, row in sorted(found))

    def section(self) -> Section:
        """The table, the run it is of, and the verdicts."""
        run = f"another run, of {self.machine.date}"
        absent = {one.name: one.reason for one in self.servers}
        warning = busy(others([one.others_percent for one in self.medians]))
        return Section(
            TITLE,
            _TEXT.format(
                date=self.machine.date,
                cpu=self.machine.cpu,
                command=self.command,
                rounds=self.rounds,
                seconds=self.seconds_per_measurement,
            )
            + (f" {warning}" if warning else ""),
            COLUMNS,
            list(self.rows()),
            [
                replace(one, why=f"{one.why}; {run}" if one.why else run)
                for one in judge_peers(self.medians, absent, self.failures)
            ],
            labels=1,
            data={"command": self.command, "date": self.machine.date, "file": FILE.name},
        )


def peers(effort: Effort, file: Path = FILE) -> Section:
    """The section; with no numbers, and the reason, when `file` does not have them."""
    effort.tell(f"reading {file.name}")
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=Kept)
    except OSError as error:
        why = f"{file.name} cannot be read ({error.strerror})"
    except msgspec.DecodeError as error:
        why = f"{file.name} is not what this version writes ({error})"
    else:
        return kept.section()
    verdicts = [Verdict(one.says, one.limit, None, why) for one in BUDGETS]
    return Section(TITLE, _LACKING.format(why=why), COLUMNS, [], verdicts, labels=1)
