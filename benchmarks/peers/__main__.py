"""Measure Foretell next to its peers, each serving the same model its own way.

    python -m benchmarks.peers                         # three rounds; writes the results
    python -m benchmarks.peers --peers mosec,litserve  # only these; writes nothing
    python -m benchmarks.peers --install               # only make the virtual environments

Each peer gets a virtual environment in .bench/venvs (some 4 GB together), made when it is
first needed. Needs what the other benchmarks do: Linux, two cores, nginx, wrk, h2load and
util-linux; and Debian's python3.11-venv for Triton. A peer that can't be had is reported with
its reason.

Exit codes: 0 no budget was missed, 1 one was, 2 the benchmark could not run.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import commands
from benchmarks.conditions import Conditions, machine
from benchmarks.harness import BenchFailed, require_tools
from benchmarks.peers import environments
from benchmarks.peers.budgets import judge_peers
from benchmarks.peers.contestants import of_foretell, of_peer
from benchmarks.peers.measuring import run_rounds
from benchmarks.peers.report import Run
from benchmarks.peers.table import PEERS, Peer
from benchmarks.percentiles import medians
from benchmarks.scenarios import linear

BENCHMARKS = Path(__file__).resolve().parents[1]
CONNECTIONS = (1, 32)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = {peer.environment: peer for peer in PEERS}
    parser.add_argument("--peers", help=f"comma-separated, of: {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--install", action="store_true", help="make the environments and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    told = parser.parse_args(argv)
    commands.counted(parser, rounds=told.rounds, seconds=told.seconds)
    told.keep = told.peers is None
    told.peers = [known[name] for name in commands.chosen(parser, "peer", told.peers, known)]
    return told


def bench(told: argparse.Namespace, argv: Sequence[str], tell: Callable[[str], None]) -> Run:
    """Measure the chosen peers, and Foretell with both kinds of model. Raises BenchFailed."""
    require_tools()
    told_machine = machine()
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        site = linear(Path(name))
        served, contestants = of_foretell(site)
        servers = [served]
        for peer in told.peers:
            served, found = of_peer(peer, site, tell)
            servers.append(served)
            contestants += found
        measured, failures = run_rounds(
            contestants,
            (site.answer["prediction"], site.answer["probability"]),
            connections=CONNECTIONS,
            rounds=told.rounds,
            seconds=told.seconds,
            logs=site.folder,
            tell=tell,
        )
    middle = medians(measured, labels=2)
    return Run(
        Conditions(
            commands.again("peers", "benchmarks.peers", argv),
            told.rounds,
            told.seconds,
            told_machine,
        ),
        CONNECTIONS,
        servers,
        measured,
        middle,
        failures,
        judge_peers(middle, {one.name: one.reason for one in servers}, failures),
    )


def install(peers: Sequence[Peer], tell: Callable[[str], None]) -> int:
    """Make the environments; the exit code, 2 when one cannot be made."""
    failed = 0
    for peer in peers:
        try:
            programs = environments.prepare(peer.environment, peer.python, tell)
        except BenchFailed as error:
            tell(f"{peer.name} cannot be had: {error}")
            failed = 2
        else:
            versions = environments.versions(programs, peer.packages)
            tell(f"{peer.name}: " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    return failed


def main(argv: Sequence[str]) -> int:
    """Run the command line; its exit code."""
    told = _arguments(argv)
    if told.install:
        return install(told.peers, print)
    return commands.carry_out(
        lambda console: bench(told, argv, lambda line: console.print(line, markup=False)),
        keep_in=BENCHMARKS if told.keep else None,
        json_file=told.json,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
