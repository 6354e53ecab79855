"""The report of a run: what was measured, on which machine, and whether the budgets held."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from benchmarks import layout
from benchmarks.budgets import Verdict
from benchmarks.commands import json_text
from benchmarks.conditions import Conditions, busy, others
from benchmarks.harness import BenchFailed
from benchmarks.sections import Section

_HOW = (
    "Every server runs alone on one core with one worker, the load on another: wrk, or what the "
    "text names. CPU is user and system time of the server's whole process tree, RSS that of its "
    'largest process; "others" is the share of the server\'s core that went to anybody else '
    "meanwhile. All numbers are medians of {rounds} rounds of {seconds} s, each with a fresh "
    "server, in turn, unless the text says otherwise. Answers are checked before and after each "
    "measurement. Most budgets are ratios within the run, because absolute times differ from "
    "machine to machine."
)


@dataclass(frozen=True, slots=True)
class Part:
    """A section, and the conditions of the run that measured it."""

    conditions: Conditions
    section: Section


@dataclass(frozen=True, slots=True)
class Run:
    """One run: where it ran and how to do it again, and its sections by name.

    `before` are parts of earlier runs; where the results are kept, this one's take their places.
    """

    conditions: Conditions
    sections: Mapping[str, Section]
    before: Mapping[str, Part] = field(default_factory=dict)

    @property
    def verdicts(self) -> list[Verdict]:
        """Those of all sections."""
        return [verdict for one in self.sections.values() for verdict in one.verdicts]

    @property
    def _parts(self) -> dict[str, Part]:
        return {name: Part(self.conditions, one) for name, one in self.sections.items()}

    def as_json(self) -> dict[str, Any]:
        """Its parts by name, JSON-ready."""
        return _json_ready(self._parts)

    def show(self, console: Console) -> None:
        """Print the tables and the verdicts."""
        for section in self.sections.values():
            console.print(layout.table(section))
        layout.conclude(console, self.verdicts, _warning(self._parts))

    def files(self) -> dict[str, str]:
        """What is kept of it, and of the parts before it, by file name."""
        parts = {**self.before, **self._parts}
        told = json_text(_json_ready(parts))
        charts = {name: svg for part in parts.values() for name, svg in part.section.charts.items()}
        return {"RESULTS.md": Page(parts).as_markdown(), "results.json": told, **charts}


@dataclass(frozen=True, slots=True)
class Page:
    """All parts that are kept: most of them of one run, others may have been measured apart."""

    parts: Mapping[str, Part]

    @property
    def conditions(self) -> Conditions:
        """Those of most parts."""
        told = [part.conditions for part in self.parts.values()]
        return max(told, key=told.count)

    @property
    def sections(self) -> list[Section]:
        """Each says when it was measured, and how, if it was apart."""
        return [self._dated(part) for part in self.parts.values()]

    def _dated(self, part: Part) -> Section:
        told, section = part.conditions, part.section
        if told == self.conditions:
            return section
        run = f"another run, of {told.machine['date']}"
        text = f"These numbers are of **{run}**, on {told.machine['cpu']}: `{told.command}`."
        return replace(
            section,
            text=f"{text} {section.text}",
            verdicts=[
                replace(one, why=f"{one.why}; {run}" if one.why else run)
                for one in section.verdicts
            ],
        )

    @property
    def verdicts(self) -> list[Verdict]:
        """Those of all parts."""
        return [verdict for section in self.sections for verdict in section.verdicts]

    @property
    def warning(self) -> str:
        """What to think of runs on a machine that was busy with something else, or nothing."""
        return _warning(self.parts)

    def as_markdown(self) -> str:
        """The report as benchmarks/RESULTS.md holds it."""
        told = self.conditions.machine
        lines = [
            *layout.page("What a request costs", self, _HOW),
            *layout.machine_lines(told),
            f"- versions: {layout.listed(told['versions'])}",
        ]
        return "\n".join(lines) + "\n"


def _json_ready(parts: Mapping[str, Part]) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(parts)
    return told


def _warning(parts: Mapping[str, Part]) -> str:
    return busy(others([share for part in parts.values() for share in part.section.others]))


def kept_in(file: Path) -> dict[str, Part]:
    """The parts that `Run.files` has written to `file`. Raises BenchFailed."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Part])
    except (OSError, msgspec.DecodeError) as error:
        why = f"{file.name} is not what this version writes ({error}): make bench writes it"
        raise BenchFailed(why) from error
