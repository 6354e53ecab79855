"""The layout of a report: how tables, verdicts and machines look, printed and on a page."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.budgets import WORDS, Verdict
from benchmarks.conditions import Conditions
from benchmarks.sections import Section

_STYLES = {"held": "green", "missed": "red"}


def table(section: Section) -> Table:
    """The section's table for a terminal; rows that begin alike stand together."""
    found = Table(title=section.title, title_justify="left")
    for number, column in enumerate(section.columns):
        found.add_column(column, justify="left" if number < section.labels else "right")
    last = ""
    for first, *rest in section.rows:
        if last and first != last and section.labels > 1:
            found.add_section()
        found.add_row("" if first == last and section.labels > 1 else first, *rest)
        last = first
    return found


def markdown(section: Section) -> Iterator[str]:
    """The lines of the section on a page."""
    yield from (f"## {section.title}", "")
    if section.text:
        yield from (section.text, "")
    if section.rows:
        yield "| " + " | ".join(section.columns) + " |"
        yield "|---" * section.labels + "|---:" * (len(section.columns) - section.labels) + "|"
        yield from ("| " + " | ".join(row) + " |" for row in section.rows)
        yield ""


def noted(console: Console, word: str, text: str) -> None:
    """Print a line under a word that says what it is, such as a verdict's."""
    console.print(f"[{_STYLES.get(word, 'yellow')}]{word:>12}[/]  {escape(text)}")


def conclude(console: Console, verdicts: Sequence[Verdict], warning: str) -> None:
    """Print the verdicts, and what to think of them."""
    for verdict in verdicts:
        noted(console, verdict.word, str(verdict))
    console.print(tally(verdicts))
    if warning:
        console.print(warning, style="yellow")


class Reported(Protocol):
    """What a page tells of a run."""

    @property
    def conditions(self) -> Conditions:
        """How to do it again, and where."""

    @property
    def sections(self) -> Sequence[Section]:
        """Its parts."""

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """What became of its budgets."""

    @property
    def warning(self) -> str:
        """What to think of them."""


def page(title: str, run: Reported, how: str) -> Iterator[str]:
    """The lines of a page as far as it is alike: charts, budgets, `how` it was done, tables.

    `how` is a format with the fields rounds and seconds.
    """
    told = run.conditions
    yield from (f"# {title}", "", f"Reproduce with `{told.command}`.", "")
    for section in run.sections:
        for name in section.charts:
            yield from (f"![{name.partition('.')[0].replace('_', ' ')}]({name})", "")
    yield from ("## Budgets", "", tally(run.verdicts), "")
    yield from (f"- **{verdict.word}**: {verdict}" for verdict in run.verdicts)
    yield from ("", run.warning, "") if run.warning else ("",)
    yield from ("## How it is measured", "")
    yield from (how.format(rounds=told.rounds, seconds=told.seconds), "")
    for section in run.sections:
        yield from markdown(section)


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many were held, missed and not measured."""
    counted = Counter(verdict.word for verdict in verdicts)
    told = ", ".join(f"{counted[word]} {word}" for word in WORDS)
    return f"Of {len(verdicts)} budgets: {told}."


def machine_lines(machine: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a page about the machine, without the versions of programs."""
    yield from ("## The machine", "")
    yield from (f"- {name}: {value}" for name, value in machine.items() if name != "versions")


def listed(versions: Mapping[str, str]) -> str:
    """Programs with their versions."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
