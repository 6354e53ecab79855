"""The report of a run: what was measured, on which machine, and whether the budgets held."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from benchmarks import layout
from benchmarks.budgets import Verdict
from benchmarks.commands import json_text
from benchmarks.conditions import Conditions, busy, others
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
class Run:
    """One run: where it ran and how to do it again, and its sections."""

    conditions: Conditions
    sections: Sequence[Section]

    @property
    def verdicts(self) -> list[Verdict]:
        """Those of all sections."""
        return [verdict for section in self.sections for verdict in section.verdicts]

    @property
    def others(self) -> float | None:
        """The share of the server's core that went to others, in per cent: the median."""
        return others([share for section in self.sections for share in section.others])

    @property
    def warning(self) -> str:
        """What to think of a run on a machine that was busy with something else, or nothing."""
        return busy(self.others)

    @property
    def charts(self) -> dict[str, str]:
        """SVG texts by file name."""
        return {name: svg for section in self.sections for name, svg in section.charts.items()}

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            **self.conditions.as_json(),
            "others_percent": self.others,
            "budgets": [verdict.as_json() for verdict in self.verdicts],
            "sections": {section.title: section.data for section in self.sections},
        }

    def show(self, console: Console) -> None:
        """Print the tables and the verdicts."""
        for section in self.sections:
            console.print(layout.table(section))
        layout.conclude(console, self.verdicts, self.warning)

    def files(self) -> dict[str, str]:
        """What is kept of it, by file name."""
        texts = {"RESULTS.md": self.as_markdown(), "results.json": json_text(self)}
        return {**texts, **self.charts}

    def as_markdown(self) -> str:
        """The report as benchmarks/RESULTS.md holds it."""
        told = self.conditions.machine
        lines = [
            *layout.page("What a request costs", self, _HOW),
            *layout.machine_lines(told),
            f"- versions: {layout.listed(told['versions'])}",
        ]
        return "\n".join(lines) + "\n"
