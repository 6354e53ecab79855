"""The report on the peers: tables for people, the same as Markdown, and all of it as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Measurement
from benchmarks.peers.measuring import Failure
from benchmarks.peers.table import KINDS, ONNX, load_name, server_name
from benchmarks.peers.verdicts import FORETELL, Verdict

COLUMNS = (
    "load",
    "server",
    "version",
    "CPU µs/request",
    "× Foretell",  # noqa: RUF001
    "× Foretell, compiled",  # noqa: RUF001
    "requests/s",
    "p50 ms",
    "p99 ms",
    "RSS MiB",
)
_LEFT = 3  # columns of words
_HOW = (
    "Every server serves the same model: the synthetic churn example, a StandardScaler and a "
    "logistic regression on four features, once as the two scikit-learn files (`predict` and "
    "`predict_proba`), once as the very ONNX file that Foretell compiled from them. One row a "
    "request, JSON in and out, over as many keep-alive connections as the load says, closed loop. "
    "Every answer is checked before it is measured: the same label, probabilities within 1e-6.\n\n"
    "Each server runs alone on one core with one worker, wrk on another core; BLAS, OpenMP and "
    "ONNX Runtime have one thread; access logs are off. CPU (user and system) and resident memory "
    "are those of the server's whole process tree, idle work included; memory that processes "
    "share counts in each. All numbers are medians of {rounds} rounds of {seconds} s, each with a "
    "fresh server. Where a peer batches by waiting, its wait shows in the p50 of one connection."
)
_RATIOS = (
    "`× Foretell` is the CPU per request in relation to Foretell's with the same kind of model; "  # noqa: RUF001
    "`× Foretell, compiled` is in relation to what Foretell does unless told otherwise."  # noqa: RUF001
)


@dataclass(frozen=True, slots=True)
class Served:
    """A server of this run: its versions and how it serves; `reason` when it could not be had.

    `packages` are those of its own, the one it is named for first.
    """

    name: str
    versions: Mapping[str, str]
    packages: tuple[str, ...]
    how: str
    reason: str = ""

    def spoken(self, packages: int | None = None) -> str:
        """The versions of its first `packages`, of all by default."""
        named = [name for name in self.packages if name in self.versions]
        return ", ".join(f"{name} {self.versions[name]}" for name in named[:packages])


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its medians, every round, what failed, and how to do it again."""

    command: str
    rounds: int
    seconds: int
    connections: Sequence[int]
    servers: Sequence[Served]
    measured: Sequence[Measurement]
    medians: Sequence[Measurement]
    failures: Sequence[Failure]
    verdicts: Sequence[Verdict]
    machine: dict[str, Any]

    def rows(self, kind: str) -> Iterator[tuple[str, ...]]:
        """A table's cells, load by load, the cheapest server first."""
        numbers = {(one.server, one.load): one for one in self.medians}
        for load in map(load_name, self.connections):
            same = numbers.get((server_name(FORETELL, kind), load))
            compiled = numbers.get((server_name(FORETELL, ONNX), load))
            there = [
                (numbers[server_name(server.name, kind), load], server)
                for server in self.servers
                if (server_name(server.name, kind), load) in numbers
            ]
            for one, server in sorted(there, key=lambda pair: pair[0].cpu_us):
                yield (
                    load,
                    server.name,
                    server.spoken(1),
                    f"{one.cpu_us:,.1f}",
                    f"{one.cpu_us / same.cpu_us:.1f}" if same else "",
                    f"{one.cpu_us / compiled.cpu_us:.1f}" if compiled else "",
                    f"{one.requests_per_s:,.0f}",
                    f"{one.p50_ms:.2f}",
                    f"{one.p99_ms:.2f}",
                    f"{one.rss_mib:.0f}",
                )

    def lacking(self) -> Iterator[str]:
        """What is not in the tables, or was not in every round, and why."""
        for server in self.servers:
            if server.reason:
                yield f"{server.name} could not be had: {server.reason}"
        for failure in self.failures:
            yield f"{failure.server}, round {failure.round}: {failure.says}"

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "command": self.command,
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds_per_measurement": self.seconds,
            "servers": [asdict(one) for one in self.servers],
            "budgets": [{**asdict(one), "verdict": one.word} for one in self.verdicts],
            "failures": [asdict(one) for one in self.failures],
            "medians": [asdict(one) for one in self.medians],
            "measured": [asdict(one) for one in self.measured],
        }

    def show(self, console: Console) -> None:
        """Print the tables and the verdicts."""
        for kind in KINDS:
            table = Table(title=f"the {kind} model, medians over the rounds", title_justify="left")
            for number, column in enumerate(COLUMNS):
                left = number < _LEFT
                table.add_column(column, justify="left" if left else "right", no_wrap=True)
            last = ""
            for row in self.rows(kind):
                if last and row[0] != last:
                    table.add_section()
                table.add_row("" if row[0] == last else row[0], *row[1:])
                last = row[0]
            console.print(table)
        for line in self.lacking():
            console.print(f"[yellow]{'lacking':>12}[/]", end="  ")
            console.print(line, markup=False)
        colours = {"held": "green", "missed": "red"}
        for verdict in self.verdicts:
            console.print(
                f"[{colours.get(verdict.word, 'yellow')}]{verdict.word:>12}[/]  {verdict.spoken}"
            )

    def as_markdown(self) -> str:
        """The report as benchmarks/PEERS.md holds it."""
        lines = [
            "# Foretell and its peers",
            "",
            _HOW.format(rounds=self.rounds, seconds=self.seconds),
            "",
            f"Reproduce with `{self.command}`. {_RATIOS}",
            "",
        ]
        for kind in KINDS:
            lines += [
                f"## The {kind} model",
                "",
                "| " + " | ".join(COLUMNS) + " |",
                "|---" * _LEFT + "|" + "---:|" * (len(COLUMNS) - _LEFT),
                *("| " + " | ".join(row) + " |" for row in self.rows(kind)),
                "",
            ]
        lines += ["## Budgets", ""]
        lines += [f"- **{verdict.word}**: {verdict.spoken}" for verdict in self.verdicts]
        lines += ["", "## What is lacking", ""]
        lines += [f"- {line}" for line in self.lacking()] or ["Nothing: every server was measured."]
        lines += ["", "## How each is served", ""]
        lines += [
            f"- {server.name} ({server.spoken() or 'absent'}): {server.how}"
            for server in self.servers
        ]
        told = {name: value for name, value in self.machine.items() if name != "versions"}
        lines += ["", "## The machine", "", *(f"- {name}: {told[name]}" for name in told)]
        lines += [f"- model libraries: {_libraries(self.servers)}"]
        return "\n".join(lines) + "\n"


def _libraries(servers: Sequence[Served]) -> str:
    """The versions of what runs the model, and the servers that differ in them."""
    groups: dict[str, list[str]] = {}
    for server in servers:
        names = ("python", "numpy", "onnxruntime", "scikit-learn")
        told = ", ".join(f"{n} {server.versions[n]}" for n in names if n in server.versions)
        if told:
            groups.setdefault(told, []).append(server.name)
    return "; ".join(f"{told} ({', '.join(names)})" for told, names in groups.items())
