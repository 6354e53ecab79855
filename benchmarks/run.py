"""The benchmark's command line: measure the servers, print the table, keep the results.

    python -m benchmarks.run            # five rounds, about six minutes; writes the results
    python -m benchmarks.run --quick    # one minute, for a look; writes nothing

Exit codes: 0 all budgets held, 1 one was missed, 2 the benchmark could not run.
"""

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.budgets import judge
from benchmarks.harness import BenchFailed, Measurement, medians, require_tools, run_rounds
from benchmarks.report import Run, machine
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.servers import SERVERS

HERE = Path(__file__).resolve().parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="two short rounds, nothing written")
    parser.add_argument("--connections", help="comma-separated (1,8,32,128; quick: 1,32)")
    parser.add_argument("--rounds", type=int, help="rounds (5; quick: 2)")
    parser.add_argument("--seconds", type=int, help="of each measurement (4; quick: 2)")
    parser.add_argument("--servers", help=f"comma-separated, of: {', '.join(SERVERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    told = parser.parse_args()
    told.rounds = told.rounds or (2 if told.quick else 5)
    told.seconds = told.seconds or (2 if told.quick else 4)
    wanted = told.connections or ("1,32" if told.quick else "1,8,32,128")
    told.connections = [int(part) for part in wanted.split(",")]
    told.keep = not told.quick and told.servers is None
    told.servers = told.servers.split(",") if told.servers else list(SERVERS)
    if unknown := set(told.servers) - set(SERVERS):
        parser.error(f"no server is called {unknown.pop()!r}; there are {', '.join(SERVERS)}")
    return told


def measure(scenario: Scenario, told: argparse.Namespace, console: Console) -> list[Measurement]:
    """Every measurement of one scenario. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="foretell-bench-") as name:
        site = scenario.prepare(Path(name))
        with console.status("") as status:
            return run_rounds(
                [SERVERS[known](site) for known in scenario.servers if known in told.servers],
                scenario.loads(site, told.connections, told.seconds),
                rounds=told.rounds,
                warm_up_s=1 if told.quick else 2,
                logs=site.folder,
                tell=status.update if console.is_terminal else console.print,
            )


def bench(told: argparse.Namespace, console: Console) -> Run:
    """Measure every scenario. Raises BenchFailed."""
    require_tools()
    told_machine = machine()
    found = [one for scenario in SCENARIOS for one in measure(scenario, told, console)]
    middle = sorted(medians(found), key=lambda one: told.servers.index(one.server))
    flags = sys.argv[1:]
    return Run(
        shlex.join(["python", "-m", "benchmarks.run", *flags]) if flags else "make bench",
        told.rounds,
        told.seconds,
        found,
        middle,
        judge(middle),
        told_machine,
    )


def main() -> int:
    """Run the command line; its exit code."""
    told = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    try:
        run = bench(told, console)
    except BenchFailed as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"bench: {error}", markup=False)
        return 2
    run.show(console)
    text = json.dumps(run.as_json(), indent=1) + "\n"
    if told.keep:
        (HERE / "RESULTS.md").write_text(run.as_markdown(), encoding="utf-8")
        (HERE / "results.json").write_text(text, encoding="utf-8")
        console.print("written: benchmarks/RESULTS.md and benchmarks/results.json")
    if told.json is not None:
        told.json.write_text(text, encoding="utf-8")
    return int(any(verdict.word == "missed" for verdict in run.verdicts))


if __name__ == "__main__":
    sys.exit(main())
