"""At rest: what a server costs that has nothing to do, and how soon it is ready.

Rules:

1. The server has answered requests before it is left alone: what it keeps from them counts.
2. A start is timed from the fork of the process to the first 200 of the readiness URL, with
   the files in the page cache.
3. A process that imported scikit-learn has its compiled modules mapped (/proc/PID/maps).
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.budgets import Limit, Verdict, at_most
from benchmarks.harness import (
    Server,
    check_answer,
    measure,
    running,
    started,
    wait_until_quiet,
)
from benchmarks.loads import Load
from benchmarks.scenarios import boosted, one_row
from benchmarks.sections import Effort, Section
from benchmarks.servers import foretell, usual_recipe

OURS = "foretell"
COLUMNS = ("server", "idle, % of a core", "RSS MiB", "start to ready, s", "maps scikit-learn")
_TEXT = (
    "The gradient boosting model with one worker. Idle: {seconds} s without a request, after a "
    "load of 32 connections. RSS is that of the largest process, after it. Start: from the start "
    "of the process to the first 200 of its readiness URL, median of {starts}, files in the page "
    "cache. The last column says whether a process of the server has compiled modules of "
    "scikit-learn mapped (/proc/PID/maps), as it has when it imported them."
)


@dataclass(frozen=True, slots=True)
class Resting:
    """What one server costs at rest."""

    server: str
    idle_percent: float
    rss_mib: float
    start_s: float
    maps_sklearn: bool


def at_rest(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("at-rest")
    site = boosted(folder)
    (load,) = one_row(site, [32], effort.seconds)
    seconds, starts = (4, 2) if effort.quick else (10, 5)
    found = []
    for prepare in (foretell, usual_recipe):
        server = prepare(site)
        if effort.servers is None or server.name in effort.servers:
            effort.tell(f"{server.name}, {seconds} s of nothing and {starts} starts")
            found.append(_rest(server, load, folder / "log", seconds, starts))
    return Section(
        "At rest",
        _TEXT.format(seconds=seconds, starts=starts),
        COLUMNS,
        [
            (
                one.server,
                f"{one.idle_percent:.2f}",
                f"{one.rss_mib:.0f}",
                f"{one.start_s:.2f}",
                "yes" if one.maps_sklearn else "no",
            )
            for one in found
        ],
        _judge(found),
        labels=1,
        data=[asdict(one) for one in found],
    )


def _rest(server: Server, load: Load, log: Path, seconds: float, starts: int) -> Resting:
    with running(server, log) as pid:
        check_answer(server, load)
        measure(server, pid, load)
        wait_until_quiet(server, pid)
        before, began = processes.cpu_seconds(pid), time.perf_counter()
        time.sleep(seconds)
        used = processes.cpu_seconds(pid) - before
        idle = used / (time.perf_counter() - began)
        rss = processes.largest_rss_mib(pid)
        maps_sklearn = processes.maps(pid, "/sklearn/")
        check_answer(server, load)
    took = []
    for _ in range(starts):
        with started(server, log) as ready:
            took.append(ready.seconds)
            check_answer(server, load)
    return Resting(server.name, idle * 100, rss, statistics.median(took), maps_sklearn)


def _judge(found: Sequence[Resting]) -> list[Verdict]:
    ours = next((one for one in found if one.server == OURS), None)
    limits: tuple[tuple[str, Limit, Callable[[Resting], float]], ...] = (
        ("an idle server, of a core", at_most(1, "%"), lambda one: one.idle_percent),
        (
            "resident memory of a worker with one small compiled model",
            at_most(150, "MiB"),
            lambda one: one.rss_mib,
        ),
        ("from start to ready, one compiled model", at_most(2, "s"), lambda one: one.start_s),
        (
            "imports of scikit-learn where a compiled model is served",
            at_most(0, ""),
            lambda one: float(one.maps_sklearn),
        ),
    )
    return [
        Verdict(says, limit, None if ours is None else number(ours))
        for says, limit, number in limits
    ]
