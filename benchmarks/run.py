"""The benchmark's command line: measure, print the tables, judge the budgets, keep the results.

    python -m benchmarks.run            # about ten minutes; writes RESULTS.md, results.json, charts
    python -m benchmarks.run --quick    # a minute or two, for a look; writes nothing

Exit codes: 0 all budgets held, 1 one was missed, 2 the benchmark could not run or a server
gave a wrong answer.
"""

import argparse
import functools
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.at_rest import at_rest
from benchmarks.comparison import compare
from benchmarks.harness import BenchFailed, require_tools
from benchmarks.overload import overload
from benchmarks.report import Run, machine
from benchmarks.scenarios import SCENARIOS
from benchmarks.sections import Effort, Section
from benchmarks.servers import SERVERS
from benchmarks.together import together

HERE = Path(__file__).resolve().parent

# The parts of the results, in their order. What measures one raises BenchFailed when it cannot;
# one that takes too long for every run may read what it kept of its own run.
SECTIONS: dict[str, Callable[[Effort], Section]] = {
    **{scenario.name: functools.partial(compare, scenario) for scenario in SCENARIOS},
    "together": together,
    "overload": overload,
    "at-rest": at_rest,
}


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    parser.add_argument("--rounds", type=int, help="rounds (3; quick: 1)")
    parser.add_argument("--seconds", type=int, help="of each measurement (3; quick: 2)")
    only = parser.add_argument_group("only a part, of which nothing is written")
    only.add_argument("--connections", help="numbers with commas (1,8,32,128; quick: 1,32)")
    only.add_argument("--servers", help=f"names with commas, of: {', '.join(SERVERS)}")
    only.add_argument("--sections", help=f"names with commas, of: {', '.join(SECTIONS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    told = parser.parse_args(argv)
    told.keep = not (told.quick or told.connections or told.servers or told.sections)
    told.rounds = told.rounds or (1 if told.quick else 3)
    told.seconds = told.seconds or (2 if told.quick else 3)
    wanted = told.connections or ("1,32" if told.quick else "1,8,32,128")
    told.connections = tuple(int(part) for part in wanted.split(","))
    told.servers = tuple(told.servers.split(",")) if told.servers else None
    told.sections = told.sections.split(",") if told.sections else list(SECTIONS)
    for kind, names, known in (
        ("server", told.servers or (), SERVERS),
        ("section", told.sections, SECTIONS),
    ):
        if unknown := set(names) - set(known):
            parser.error(f"no {kind} is called {unknown.pop()!r}; there are {', '.join(known)}")
    return told


def bench(told: argparse.Namespace, argv: Sequence[str], console: Console) -> Run:
    """Measure the sections that are wanted. Raises BenchFailed."""
    require_tools()
    told_machine = machine()
    sections = []
    with tempfile.TemporaryDirectory(prefix="foretell-bench-") as name, console.status("") as bar:
        tell = bar.update if console.is_terminal else console.print
        for section in told.sections:

            def told_of(words: str, section: str = section) -> None:
                tell(f"{section}: {words}")

            effort = Effort(
                rounds=told.rounds,
                seconds=told.seconds,
                connections=told.connections,
                quick=told.quick,
                folder=Path(name),
                tell=told_of,
                servers=told.servers,
            )
            sections.append(SECTIONS[section](effort))
    command = shlex.join(["python", "-m", "benchmarks.run", *argv]) if argv else "make bench"
    return Run(command, told.rounds, told.seconds, sections, told_machine)


def keep(run: Run, folder: Path) -> list[Path]:
    """Write RESULTS.md, results.json and the charts to `folder`."""
    texts = {
        "RESULTS.md": run.as_markdown(),
        "results.json": json.dumps(run.as_json(), indent=1) + "\n",
        **run.charts,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def main(argv: Sequence[str]) -> int:
    """Run the command line; its exit code."""
    told = _arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    complaints = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        run = bench(told, argv, console)
    except BenchFailed as error:
        complaints.print(f"bench: {error}", markup=False)
        return 2
    except Exception:  # its exit code would say that a budget was missed
        complaints.print_exception()
        return 2
    run.show(console)
    if told.keep:
        console.print(f"written: {', '.join(path.name for path in keep(run, HERE))}")
    if told.json is not None:
        told.json.write_text(json.dumps(run.as_json(), indent=1) + "\n", encoding="utf-8")
    return int(any(verdict.word == "missed" for verdict in run.verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
