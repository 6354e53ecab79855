"""The conditions of a run: what its numbers depend on, and how to do it again."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import find_tool

QUIET_PERCENT = 10
LIBRARIES = (
    "fastapi",
    "grpcio",
    "h2corn",
    "httptools",
    "msgspec",
    "numpy",
    "onnxruntime",
    "pandas",
    "protobuf",
    "pydantic",
    "scikit-learn",
    "uvicorn",
    "uvloop",
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The command, how often and how long it measured, and the machine."""

    command: str
    rounds: int
    seconds: int
    machine: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "command": self.command,
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds_per_measurement": self.seconds,
        }


def others(shares: Sequence[float]) -> float | None:
    """The median of the `shares` of the server's core that went to others, in per cent."""
    return statistics.median(shares) if shares else None


def busy(percent: float | None) -> str:
    """What to think of a run when others took so much of the server's core, or nothing."""
    if percent is None or percent <= QUIET_PERCENT:
        return ""
    return (
        f"This machine was busy with something else: {percent:.0f} % of the server's core "
        "went to others (median). Of such a run, only ratios of CPU mean something, and "
        "latencies, overload and requests/s do not."
    )


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
            "h2load": _first_line("h2load", "--version").rpartition("/")[2],
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
