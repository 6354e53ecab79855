"""The benchmark's command line: measure, print the tables, judge the budgets, keep the results.

    python -m benchmarks.run            # 40 minutes; writes RESULTS.md, results.json, charts
    python -m benchmarks.run --quick    # a minute or two, for a look; writes nothing
    python -m benchmarks.run --sections stream --keep    # that part anew; the others stay

The section on the peers measures nothing: it shows what `make peers` kept.

Exit codes: 0 no budget was missed, 1 one was, 2 the benchmark could not run or a server gave a
wrong answer.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import commands
from benchmarks.at_rest import at_rest
from benchmarks.batch_jobs import batch_jobs
from benchmarks.caches import caches
from benchmarks.comparison import compare
from benchmarks.compilation import compilation
from benchmarks.conditions import Conditions, machine
from benchmarks.counting import counting
from benchmarks.gateway import gateway
from benchmarks.harness import require_tools
from benchmarks.image import image, require_base
from benchmarks.many_rows import many_rows
from benchmarks.overload import overload
from benchmarks.peers.kept import peers
from benchmarks.report import Run, kept_in
from benchmarks.scenarios import SCENARIOS
from benchmarks.sections import Effort, Section
from benchmarks.servers import SERVERS
from benchmarks.streams import streams
from benchmarks.tables import tables
from benchmarks.together import together

HERE = Path(__file__).resolve().parent

# The parts of the results, in their order. What measures one raises BenchFailed when it cannot;
# one that takes too long for every run may read what it kept of its own run.
SECTIONS: dict[str, Callable[[Effort], Section]] = {
    **{scenario.name: functools.partial(compare, scenario) for scenario in SCENARIOS},
    "together": together,
    "overload": overload,
    "tables": tables,
    "at-rest": at_rest,
    "image": image,
    "gateway": gateway,
    "metrics": counting,
    "cache": caches,
    "compilation": compilation,
    "batch": batch_jobs,
    "bulk": many_rows,
    "stream": streams,
    "peers": peers,
}


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    parser.add_argument("--rounds", type=int, help="rounds (3; quick: 1)")
    parser.add_argument("--seconds", type=int, help="of each measurement (3; quick: 2)")
    only = parser.add_argument_group("only a part, of which nothing is written unless told")
    only.add_argument("--connections", help="numbers with commas (1,8,32,128; quick: 1,32)")
    only.add_argument("--servers", help=f"names with commas, of: {', '.join(SERVERS)}")
    only.add_argument("--sections", help=f"names with commas, of: {', '.join(SECTIONS)}")
    only.add_argument("--keep", action="store_true", help="write whole --sections, with their date")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    told = parser.parse_args(argv)
    whole = not (told.quick or told.connections or told.servers)
    if told.keep and not whole:
        parser.error("--keep takes whole sections: no --quick, --connections, --servers")
    told.keep = whole and (told.keep or not told.sections)
    if told.rounds is None:
        told.rounds = 1 if told.quick else 3
    if told.seconds is None:
        told.seconds = 2 if told.quick else 3
    wanted = told.connections or ("1,32" if told.quick else "1,8,32,128")
    told.connections = tuple(int(part) for part in wanted.split(","))
    commands.counted(parser, rounds=told.rounds, seconds=told.seconds)
    if told.servers is not None:
        told.servers = tuple(commands.chosen(parser, "server", told.servers, SERVERS))
    told.sections = commands.chosen(parser, "section", told.sections, SECTIONS)
    return told


def bench(told: argparse.Namespace, argv: Sequence[str], console: Console) -> Run:
    """Measure the sections that are wanted. Raises BenchFailed."""
    require_tools()
    if "image" in told.sections:  # which is half an hour away
        require_base()
    others_stay = told.keep and len(told.sections) < len(SECTIONS)
    before = kept_in(HERE / "results.json") if others_stay else {}
    told_machine = machine()
    sections = dict[str, Section]()
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
            sections[section] = SECTIONS[section](effort)
    command = commands.again("bench", "benchmarks.run", argv)
    return Run(Conditions(command, told.rounds, told.seconds, told_machine), sections, before)


def main(argv: Sequence[str]) -> int:
    """Run the command line; its exit code."""
    told = _arguments(argv)
    return commands.carry_out(
        lambda console: bench(told, argv, console),
        keep_in=HERE if told.keep else None,
        json_file=told.json,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
