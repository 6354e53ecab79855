"""A command of the benchmarks: what their command lines have in common.

Exit codes: 0 no budget was missed, 1 one was, 2 the benchmark could not run.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from benchmarks.budgets import Verdict
from benchmarks.harness import BenchFailed


def chosen(
    parser: argparse.ArgumentParser, kind: str, told: str | None, known: Collection[str]
) -> list[str]:
    """The names `told` with commas, all by default; one that is not `known` ends the command."""
    names = told.split(",") if told else list(known)
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no {kind} is called {unknown[0]!r}; there are {', '.join(known)}")
    return names


def counted(parser: argparse.ArgumentParser, **numbers: int) -> None:
    """End the command when one of the `numbers`, by flag, is less than 1."""
    for flag, number in numbers.items():
        if number < 1:
            parser.error(f"--{flag} is at least 1")


def again(target: str, module: str, argv: Sequence[str]) -> str:
    """The command that does the same once more."""
    return shlex.join(["python", "-m", module, *argv]) if argv else f"make {target}"


class Outcome(Protocol):
    """What a run came to."""

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """What became of its budgets."""

    def show(self, console: Console) -> None:
        """Print it."""

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""

    def files(self) -> dict[str, str]:
        """What is kept of it: texts by file name."""


def carry_out(
    bench: Callable[[Console], Outcome], *, keep_in: Path | None, json_file: Path | None
) -> int:
    """Measure, print and write; the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    complaints = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        found = bench(console)
    except BenchFailed as error:
        complaints.print(f"bench: {error}", markup=False)
        return 2
    except Exception:  # its exit code would say that a budget was missed
        complaints.print_exception()
        return 2
    found.show(console)
    if keep_in is not None:
        files = found.files()
        for name, text in files.items():
            (keep_in / name).write_text(text, encoding="utf-8")
        console.print(f"written: {', '.join(files)}")
    if json_file is not None:
        json_file.write_text(json_text(found.as_json()), encoding="utf-8")
    return int(any(verdict.word == "missed" for verdict in found.verdicts))


def json_text(told: dict[str, Any]) -> str:
    """It as the text of a JSON file."""
    return json.dumps(told, indent=1) + "\n"
