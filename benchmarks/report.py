"""The report of a run: what was measured, on which machine, and whether the budgets held."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.budgets import Verdict
from benchmarks.harness import Measurement, find_tool

FLOOR, USUAL = "floor", "usual recipe"
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
COLUMNS = (
    "load",
    "server",
    "CPU µs/request",
    "× floor",  # noqa: RUF001
    "usual recipe costs",
    "requests/s",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "RSS MiB",
)
_HOW = (
    "The model is the synthetic churn example: a StandardScaler and a logistic regression in two "
    "files, four features, one row a request, JSON in and out. Every server runs alone on one "
    "core with one worker, wrk on another. CPU is user and system time of the server's whole "
    "process tree; all numbers are medians of {rounds} rounds of {seconds} s, each with a fresh "
    "server. The floor is nginx returning the same bytes from memory; the usual recipe is "
    "`benchmarks/usual_recipe.py`: FastAPI, pydantic, pandas and scikit-learn."
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its medians, every round, and how to do it again."""

    command: str
    rounds: int
    seconds: int
    measured: Sequence[Measurement]
    medians: Sequence[Measurement]
    verdicts: Sequence[Verdict]
    machine: dict[str, Any]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The table's cells, load by load."""
        numbers = {(one.server, one.load): one for one in self.medians}
        for load in dict.fromkeys(one.load for one in self.medians):
            for one in (m for m in self.medians if m.load == load):
                floor, usual = numbers.get((FLOOR, load)), numbers.get((USUAL, load))
                yield (
                    load,
                    one.server,
                    f"{one.cpu_us:,.1f}",
                    f"{one.cpu_us / floor.cpu_us:.1f}" if floor else "",
                    f"{usual.cpu_us / one.cpu_us:.1f}× as much" if usual else "",  # noqa: RUF001
                    f"{one.requests_per_s:,.0f}",
                    f"{one.p50_ms:.2f}",
                    f"{one.p90_ms:.2f}",
                    f"{one.p99_ms:.2f}",
                    f"{one.rss_mib:.0f}",
                )

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "command": self.command,
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds_per_measurement": self.seconds,
            "budgets": [{**asdict(v), "verdict": v.word} for v in self.verdicts],
            "medians": [asdict(one) for one in self.medians],
            "measured": [asdict(one) for one in self.measured],
        }

    def show(self, console: Console) -> None:
        """Print the table and the verdicts."""
        table = Table(title="medians over the rounds", title_justify="left")
        for number, column in enumerate(COLUMNS):
            table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
        last = ""
        for row in self.rows():
            if last and row[0] != last:
                table.add_section()
            table.add_row("" if row[0] == last else row[0], *row[1:])
            last = row[0]
        console.print(table)
        colours = {"held": "green", "missed": "red"}
        for verdict in self.verdicts:
            style = colours.get(verdict.word, "yellow")
            console.print(f"[{style}]{verdict.word:>12}[/]  {_spoken(verdict)}")

    def as_markdown(self) -> str:
        """The report as benchmarks/RESULTS.md holds it."""
        lines = [
            "# What a request costs",
            "",
            _HOW.format(rounds=self.rounds, seconds=self.seconds),
            "",
            f"Reproduce with `{self.command}`.",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---|---|" + "---:|" * (len(COLUMNS) - 2),
            *("| " + " | ".join(row) + " |" for row in self.rows()),
            "",
            "## Budgets",
            "",
            *(f"- **{verdict.word}**: {_spoken(verdict)}" for verdict in self.verdicts),
            "",
            "## The machine",
            "",
            *(f"- {name}: {value}" for name, value in self.machine.items() if name != "versions"),
            "- versions: " + ", ".join(f"{k} {v}" for k, v in self.machine["versions"].items()),
        ]
        return "\n".join(lines) + "\n"


def _spoken(verdict: Verdict) -> str:
    if verdict.ratio is None:
        return verdict.says
    return f"{verdict.says} (measured {verdict.ratio:.3f}, at most {verdict.at_most:.3f})"


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
