"""The report of a run: what was measured, on which machine, and whether the budgets held."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.budgets import Verdict
from benchmarks.harness import find_tool
from benchmarks.sections import Section

LIBRARIES = (
    "fastapi",
    "h2corn",
    "httptools",
    "msgspec",
    "numpy",
    "onnxruntime",
    "pandas",
    "pydantic",
    "scikit-learn",
    "uvicorn",
    "uvloop",
)
_HOW = (
    "Every server runs alone on one core with one worker, the load on another: wrk, or a client "
    "of `benchmarks/` where the text names one. CPU is user and system time of the server's whole "
    'process tree, RSS that of its largest process; "others" is the share of the server\'s core '
    "that went to anybody else meanwhile. All numbers are medians of {rounds} rounds of "
    "{seconds} s, each with a fresh server, in turn, unless the text says otherwise. Answers are "
    "checked before and after each measurement. Most budgets are ratios within the run, because "
    "absolute times differ from machine to machine."
)
QUIET_PERCENT = 10
_STYLES = {"held": "green", "missed": "red"}


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its sections, where it ran, and how to do it again."""

    command: str
    rounds: int
    seconds: int
    sections: Sequence[Section]
    machine: dict[str, Any]

    @property
    def verdicts(self) -> list[Verdict]:
        """Those of all sections."""
        return [verdict for section in self.sections for verdict in section.verdicts]

    @property
    def others(self) -> float | None:
        """The share of the server's core that went to others, in per cent: the median."""
        shares = [share for section in self.sections for share in section.others]
        return statistics.median(shares) if shares else None

    @property
    def warning(self) -> str:
        """What to think of a run on a machine that was busy with something else, or nothing."""
        if self.others is None or self.others <= QUIET_PERCENT:
            return ""
        return (
            f"This machine was busy with something else: {self.others:.0f} % of the server's core "
            "went to others (median). Of such a run, only ratios of CPU mean something, and "
            "latencies, overload and requests/s do not."
        )

    @property
    def charts(self) -> dict[str, str]:
        """SVG texts by file name."""
        return {name: svg for section in self.sections for name, svg in section.charts.items()}

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "command": self.command,
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds_per_measurement": self.seconds,
            "others_percent": self.others,
            "budgets": [verdict.as_json() for verdict in self.verdicts],
            "sections": {section.title: section.data for section in self.sections},
        }

    def show(self, console: Console) -> None:
        """Print the tables and the verdicts."""
        for section in self.sections:
            console.print(_table(section))
        for verdict in self.verdicts:
            style = _STYLES.get(verdict.word, "yellow")
            console.print(f"[{style}]{verdict.word:>12}[/]  {verdict}")
        if self.warning:
            console.print(self.warning, style="yellow")

    def as_markdown(self) -> str:
        """The report as benchmarks/RESULTS.md holds it."""
        machine = self.machine.items()
        lines = [
            "# What a request costs",
            "",
            f"Reproduce with `{self.command}`.",
            "",
            *(f"![{name.partition('.')[0].replace('_', ' ')}]({name})\n" for name in self.charts),
            "## Budgets",
            "",
            *(f"- **{verdict.word}**: {verdict}" for verdict in self.verdicts),
            "",
            *((self.warning, "") if self.warning else ()),
            "## How it is measured",
            "",
            _HOW.format(rounds=self.rounds, seconds=self.seconds),
            "",
            *(line for section in self.sections for line in _markdown(section)),
            "## The machine",
            "",
            *(f"- {name}: {value}" for name, value in machine if name != "versions"),
            "- versions: " + ", ".join(f"{k} {v}" for k, v in self.machine["versions"].items()),
        ]
        return "\n".join(lines) + "\n"


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left")
    for number, column in enumerate(section.columns):
        table.add_column(column, justify="left" if number < section.labels else "right")
    last = ""
    for first, *rest in section.rows:
        if last and first != last:
            table.add_section()
        table.add_row("" if first == last else first, *rest)
        last = first
    return table


def _markdown(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "", section.text, "")
    if section.rows:
        yield "| " + " | ".join(section.columns) + " |"
        yield "|---" * section.labels + "|---:" * (len(section.columns) - section.labels) + "|"
        yield from ("| " + " | ".join(row) + " |" for row in section.rows)
        yield ""


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average before": round(os.getloadavg()[0], 2),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
            "nginx": _first_line(find_tool("nginx") or "nginx", "-v").rpartition("/")[2],
            "wrk": _first_line("wrk", "--version").removeprefix("wrk ").split()[0],
        },
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*argv: str) -> str:
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (told.stdout + told.stderr).strip().splitlines()[0]
