"""Showing a load test to people: what comes back while it runs, and a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from foretell.app.reports import escape
from foretell.loadtest.payloads import Payload
from foretell.loadtest.recording import Second
from foretell.loadtest.report import Report
from foretell.loadtest.results import measures, milliseconds
from foretell.loadtest.running import Plan

LINE_EVERY = 10
"""Seconds, where there is no terminal."""
_MOST_ERRORS = 5

Watch = Callable[[Payload, Second], None]


def spoken(payload: Payload, second: Second, plan: Plan) -> str:
    """What a second was like, in words."""
    return (
        f"{payload.protocol}: {min(second.at + second.length_s, plan.duration_s):.0f} of "
        f"{plan.duration_s:g} s, {second.answered / second.length_s:,.0f} answers/s, "
        f"p50 {milliseconds(second.p50_s)}, p99 {milliseconds(second.p99_s)}, "
        f"{second.failed:,} failed, {second.under_way:,} under way"
    )


@contextmanager
def watched(console: Console | None, plan: Plan) -> Iterator[Watch]:
    """What to tell of each second: one line on a terminal, else a line now and then."""
    if console is None:
        yield lambda _payload, _second: None
    elif console.is_terminal:
        with console.status("warming up …") as status:
            yield lambda payload, second: status.update(escape(spoken(payload, second, plan)))
    else:
        told = 0

        def line(payload: Payload, second: Second) -> None:
            nonlocal told
            told += 1
            if told % LINE_EVERY == 0:
                console.print(spoken(payload, second, plan), markup=False)

        yield line


def show(console: Console, report: Report) -> None:
    """Print the results side by side, and what they say."""
    results = report.results
    plan, rows = results[0].plan, results[0].payload.rows
    loop = (
        f"closed loop, {plan.concurrency} under way"
        if plan.rate is None
        else f"open loop, {plan.rate:,g} requests/s"
    )
    console.print(
        f"[bold]{escape(report.model)}[/] at {escape(report.url)}: {loop}, "
        f"{rows:,} {'row' if rows == 1 else 'rows'} a request, {plan.duration_s:g} s"
    )
    table = Table(box=None, padding=(0, 3, 0, 0))
    table.add_column("")
    for result in results:
        table.add_column(escape(result.protocol), justify="right")
    for name, tell in measures(plan):
        table.add_row(name, *(tell(result) for result in results))
    console.print(table)
    for result in results:
        for words, count in result.outcome.recording.errors.most_common(_MOST_ERRORS):
            console.print(f"{result.protocol}: {count:,} x {escape(words)}")
    for result in results:
        style = "yellow" if result.limits else "bold"
        console.print(f"[{style}]{escape(result.protocol)}[/]: {escape(result.verdict)}")
