"""The report on the peers: tables for people, the same as Markdown, and all of it as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from benchmarks import layout
from benchmarks.budgets import Verdict
from benchmarks.commands import json_text
from benchmarks.conditions import Conditions, busy, others
from benchmarks.harness import Measurement
from benchmarks.peers.measuring import Failure
from benchmarks.peers.table import FORETELL, KINDS, ONNX, load_name, server_name
from benchmarks.sections import Section, kept

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
    "\n\n"
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
        return layout.listed(self.of(self.packages[:packages]))

    def of(self, packages: Sequence[str]) -> dict[str, str]:
        """The versions of those `packages` that it has."""
        return {name: self.versions[name] for name in packages if name in self.versions}


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its medians, every round, what failed, and how to do it again."""

    conditions: Conditions
    connections: Sequence[int]
    servers: Sequence[Served]
    measured: Sequence[Measurement]
    medians: Sequence[Measurement]
    failures: Sequence[Failure]
    verdicts: Sequence[Verdict]

    @property
    def sections(self) -> list[Section]:
        """A table for each kind of model."""
        return [
            Section(f"The {kind} model", "", COLUMNS, list(self.rows(kind)), labels=3)
            for kind in KINDS
        ]

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

    @property
    def warning(self) -> str:
        """What to think of a run on a machine that was busy with something else, or nothing."""
        return busy(others([one.others_percent for one in self.measured]))

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
            **self.conditions.as_json(),
            "servers": [asdict(one) for one in self.servers],
            "budgets": [verdict.as_json() for verdict in self.verdicts],
            "failures": [asdict(one) for one in self.failures],
            **kept(self.medians, self.measured),
        }

    def show(self, console: Console) -> None:
        """Print the tables and the verdicts."""
        for section in self.sections:
            console.print(layout.table(section))
        for line in self.lacking():
            layout.noted(console, "lacking", line)
        layout.conclude(console, self.verdicts, self.warning)

    def files(self) -> dict[str, str]:
        """What is kept of it, by file name."""
        return {"PEERS.md": self.as_markdown(), "peers.json": json_text(self.as_json())}

    def as_markdown(self) -> str:
        """The report as benchmarks/PEERS.md holds it."""
        lacking = list(self.lacking()) or ["Nothing: every server was measured in every round."]
        lines = [
            *layout.page("Foretell and its peers", self, _HOW),
            "## What is lacking",
            "",
            *(f"- {line}" for line in lacking),
            "",
            "## How each is served",
            "",
            *(f"- {one.name} ({one.spoken() or 'absent'}): {one.how}" for one in self.servers),
            "",
            *layout.machine_lines(self.conditions.machine),
            f"- model libraries: {_libraries(self.servers)}",
        ]
        return "\n".join(lines) + "\n"


def _libraries(servers: Sequence[Served]) -> str:
    """The versions of what runs the model, and the servers that differ in them."""
    groups: dict[str, list[str]] = {}
    for server in servers:
        if told := server.of(("python", "numpy", "onnxruntime", "scikit-learn")):
            groups.setdefault(layout.listed(told), []).append(server.name)
    return "; ".join(f"{told} ({', '.join(names)})" for told, names in groups.items())
