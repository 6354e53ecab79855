"""Measure Foretell next to its peers, each serving the same model its own way.

    python -m benchmarks.peers                         # three rounds; writes the results
    python -m benchmarks.peers --peers mosec,litserve  # only these; writes nothing
    python -m benchmarks.peers --install               # only make the virtual environments

Each peer gets a virtual environment in .bench/venvs (about 3.5 GB together), made when it is
first needed. Needs Linux, two cores, nginx, wrk and util-linux, as the other benchmarks do, and
Debian's python3.11-venv for Triton. A peer that can't be had is reported with its reason.

Exit codes: 0 no budget was missed, 1 one was, 2 the benchmark could not run.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.harness import BenchFailed, medians, require_tools
from benchmarks.peers import environments
from benchmarks.peers.contestants import of_foretell, of_peer, prepare_site
from benchmarks.peers.measuring import run_rounds
from benchmarks.peers.report import Run
from benchmarks.peers.table import PEERS, Peer
from benchmarks.peers.verdicts import judge
from benchmarks.report import machine

BENCHMARKS = Path(__file__).resolve().parents[1]
CONNECTIONS = (1, 32)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = {peer.environment: peer for peer in PEERS}
    parser.add_argument("--peers", help=f"comma-separated, of: {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--install", action="store_true", help="make the environments and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    told = parser.parse_args()
    names = told.peers.split(",") if told.peers else list(known)
    if unknown := set(names) - set(known):
        parser.error(f"no peer is called {unknown.pop()!r}; there are {', '.join(known)}")
    if min(told.rounds, told.seconds) < 1:
        parser.error("--rounds and --seconds are at least 1")
    told.keep = told.peers is None
    told.peers = [known[name] for name in names]
    return told


def bench(told: argparse.Namespace, tell: Callable[[str], None]) -> Run:
    """Measure the chosen peers, and Foretell with both kinds of model. Raises BenchFailed."""
    require_tools()
    told_machine = machine()
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        site = prepare_site(Path(name))
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
    middle = medians(measured)
    return Run(
        shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]]),
        told.rounds,
        told.seconds,
        CONNECTIONS,
        servers,
        measured,
        middle,
        failures,
        judge(middle, {one.name: one.reason for one in servers}),
        told_machine,
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


def main() -> int:
    """Run the command line; its exit code."""
    told = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)

    def tell(line: str) -> None:
        console.print(line, markup=False)

    if told.install:
        return install(told.peers, tell)
    try:
        run = bench(told, tell)
    except BenchFailed as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"bench: {error}", markup=False)
        return 2
    run.show(console)
    text = json.dumps(run.as_json(), indent=1) + "\n"
    if told.keep:
        (BENCHMARKS / "PEERS.md").write_text(run.as_markdown(), encoding="utf-8")
        (BENCHMARKS / "peers.json").write_text(text, encoding="utf-8")
        tell("written: benchmarks/PEERS.md and benchmarks/peers.json")
    if told.json is not None:
        told.json.write_text(text, encoding="utf-8")
    return int(any(verdict.word == "missed" for verdict in run.verdicts))


if __name__ == "__main__":
    sys.exit(main())
