"""The command `foretell batch`: a job from the command line to its exit code."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from rich.console import Console

from foretell.app.batching.choices import BatchSettings
from foretell.app.batching.jobs import BatchJob
from foretell.app.batching.showing import show_plan, show_report, watched
from foretell.app.reports import printable
from foretell.transports.batch.report import Report

BAD_ROWS = 3
"""The exit code of a job that is done but for some rows."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Stopped(BaseException):
    """A signal asked the job to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that a signal ended: its exit code, and what is said of it."""

    code: int
    said: str


def prepared(model: str, data: str, output: str, settings: BatchSettings) -> BatchJob:
    """The job, decided in all. Raises ForetellError."""
    _keep_to_one_thread()
    return BatchJob(model, data, output, settings)


def _keep_to_one_thread() -> None:
    """Let libraries have no threads beside the workers, each of which keeps a core busy."""
    for variable in _THREADS:  # read by those that are loaded later
        os.environ.setdefault(variable, "1")
    if importlib.util.find_spec("threadpoolctl") is not None:  # it comes with scikit-learn
        from threadpoolctl import (  # type: ignore[import-untyped]  # ships no types
            threadpool_limits,
        )

        threadpool_limits(1, user_api="blas")  # numpy's is loaded already


def show_dry_run(job: BatchJob, console: Console) -> None:
    """What the job would do."""
    show_plan(console, job.prepared)


def carry_out(job: BatchJob, console: Console, *, quiet: bool) -> Report | Ended:
    """The report, or how a signal ended it. Raises ForetellError."""
    try:
        with _signals(), watched(console, quiet=quiet) as hook:
            return job.run(hook)
    except Stopped as stop:
        progress = job.progress
        parts = 0 if progress is None else progress.parts + progress.parts_before
        said = f"stopped: {parts:,} parts are done and stay; the same command goes on from there"
        said = "; ".join((said, *getattr(stop, "__notes__", ())))
        console.print(said, markup=False)
        return Ended(128 + stop.number, said)


def show(report: Report, console: Console) -> None:
    """The report for people, and where bad rows went."""
    show_report(console, report)
    if report.parts_before == report.parts:
        console.print("all of it was done before: nothing was done now", markup=False)
    if report.bad_rows:
        where = f"written to {printable(report.quarantine)}" if report.quarantine else "left out"
        console.print(f"{report.bad_rows:,} bad rows were {where}", markup=False)


@contextmanager
def _signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise Stopped, once: a second one ends the process at once."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
