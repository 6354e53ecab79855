"""Showing a job to people: how far it is while it runs, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from foretell.app.reports import escape
from foretell.transports.batch.report import Progress, Report

LINE_EVERY_S = 10.0


def spoken(progress: Progress) -> str:
    """How far a job is, in words."""
    rows = progress.rows + progress.rows_before
    parts = progress.parts + progress.parts_before
    told = [f"{rows:,} rows", f"{parts:,} parts"]
    if progress.rows_total is not None:
        share = rows / progress.rows_total if progress.rows_total else 1.0
        told[0] = f"{rows:,} of {progress.rows_total:,} rows ({share:.0%})"
    if progress.parts_total is not None:
        told[1] = f"{parts:,} of {progress.parts_total:,} parts"
    told.insert(1, f"{progress.rows_per_s:,.0f} rows/s")
    if progress.seconds_left is not None:
        told.insert(2, f"{time_of(progress.seconds_left)} left")
    told.append(f"{progress.bad:,} bad rows")
    return ", ".join(told)


def time_of(seconds: float) -> str:
    """A time as people read it: 8.2 s, 1:05 min, 2:03:07 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


@contextmanager
def watched(console: Console, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What to tell of progress: a bar on a terminal, else a line now and then."""
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Bar(
            TextColumn("scoring"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task("", total=None, told="")

            def show(progress: Progress) -> None:
                done = progress.rows + progress.rows_before
                bar.update(task, total=progress.rows_total, completed=done, told=spoken(progress))

            yield show
    else:
        last = time.monotonic()

        def line(progress: Progress) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_EVERY_S:
                last = time.monotonic()
                console.print(spoken(progress), markup=False)

        yield line


def show_report(console: Console, report: Report) -> None:
    """Print what became of a job."""
    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    before = f" ({report.parts_before:,} of them before)" if report.parts_before else ""
    for name, told in (
        ("model", f"{report.model} {report.version}"),
        ("output", report.output),
        ("files", f"{report.files:,}"),
        ("rows", f"{report.rows_in:,}"),
        ("scored", f"{report.rows_scored:,}"),
        ("bad rows", f"{report.bad_rows:,}"),
        ("parts", f"{report.parts:,}{before}"),
        ("time", f"{time_of(report.seconds)}, {report.rows_per_s:,.0f} rows/s"),
    ):
        table.add_row(name, escape(told))
    if report.quarantine is not None:
        table.add_row("quarantine", escape(report.quarantine))
    console.print(table)


def show_plan(console: Console, told: Mapping[str, Any]) -> None:
    """Print what would be done, as `told` has it."""
    rows = "as many as there are" if told["rows"] is None else f"{told['rows']:,}"
    parts = "" if told["parts"] is None else f" in {told['parts']:,} parts"
    size = told["bytes"] / 2**20
    done = f"; {told['parts_done']:,} parts are done already" if told["parts_done"] else ""
    console.print(f"{told['files']:,} files, {size:,.1f} MiB; rows: {rows}{parts}{done}")
    console.print(f"[bold]{escape(told['output'])}[/] ({told['format']})")
    feeds = Table("input", "column", box=None, padding=(0, 3, 0, 2))
    for name, column in told["inputs"].items():
        feeds.add_row(escape(name), escape(column))
    console.print(feeds)
    columns = Table("output", "type", box=None, padding=(0, 3, 0, 2))
    for name, kind in told["columns"].items():
        columns.add_row(escape(name), escape(kind))
    console.print(columns)
