"""Together: a slow model and a fast one in one server, and what the slow one does to the rest.

A fast model's request, or a health check, never waits for a slow model's call. With a model that
only waits (on another device, say) nothing should be felt. One that computes shares the core
with the rest: the operating system and the interpreter take turns of a few milliseconds.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from benchmarks.budgets import Verdict, at_most
from benchmarks.harness import Server, check_answer, measure, running, under
from benchmarks.loads import Load
from benchmarks.percentiles import medians
from benchmarks.scenarios import boosted, one_row
from benchmarks.sections import Effort, Section, kept
from benchmarks.servers import pack, repository, serve
from benchmarks.slow_models import CALL_S

SLOW = {"waiting": "Waiting", "computing": "Computing"}  # a model's name: its class
CONNECTIONS = 16
LIMIT = at_most(CALL_S * 1e3, "ms")
COLUMNS = (
    "beside",
    "asked",
    "alone p50 ms",
    "alone p99 ms",
    "beside p50 ms",
    "beside p99 ms",
    "others, %",
)
_TEXT = (
    "One server with one worker serves the gradient boosting model and two slow ones, Python "
    "classes whose every call takes {call:.0f} ms (`benchmarks/slow_models.py`): one sleeps, one "
    "computes in Python on the same core. {connections} connections keep a slow model busy while "
    "one connection asks the fast model, then `/health`. Budget: the p99 of both stays below one "
    "call of the slow model, so nothing waits for a call to end."
)


@dataclass(frozen=True, slots=True)
class Felt:
    """What is felt of the slow model `slow` where `asked` is asked: latencies in ms."""

    slow: str
    asked: str
    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float
    others_percent: float


def together(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("together")
    site = boosted(folder)
    models = repository(site)
    for name, its_class in SLOW.items():
        pack(f"slow_models:{its_class}", "--name", name, "-o", str(models))
    server = serve(models, "--default-model", "churn")
    (fast,) = (replace(one, name="the fast model") for one in one_row(site, [1], effort.seconds))
    health = Load("/health", "/health", b"", 1, effort.seconds, method="GET")
    rounds: list[Felt] = []
    for number in range(effort.rounds):
        effort.tell(f"round {number + 1} of {effort.rounds}")
        with running(server, folder / "log") as pid:
            for name in SLOW:
                rounds += _round(server, pid, slow_load(name), (fast, health))
    found = medians(rounds, labels=2)
    return Section(
        "A slow model and a fast one together",
        _TEXT.format(call=CALL_S * 1e3, connections=CONNECTIONS),
        COLUMNS,
        [
            (slow, asked, *(f"{number:.2f}" for number in numbers))
            for slow, asked, *numbers in map(astuple, found)
        ],
        [Verdict(f"{one.asked}: p99 beside {one.slow}", LIMIT, one.beside_p99_ms) for one in found],
        others=[one.others_percent for one in rounds],
        data=kept(found, rounds),
    )


def slow_load(name: str, connections: int = CONNECTIONS) -> Load:
    """The load that keeps the slow model `name` busy."""
    answer = {"prediction": 2.0, "model_version": "1.0.0"}
    path = f"/models/{name}/predict"
    return Load(f"the {name} model", path, b'{"x": 1.0}', connections, 1, answer)


def _round(server: Server, pid: int, slow: Load, asked: Sequence[Load]) -> list[Felt]:
    for load in (slow, *asked):
        check_answer(server, load)
    alone = [measure(server, pid, load) for load in asked]
    with under(server, slow):
        beside = [measure(server, pid, load, wait=False) for load in asked]
    for load in (slow, *asked):
        check_answer(server, load)
    return [
        Felt(
            slow.name,
            load.name,
            one.p50_ms,
            one.p99_ms,
            other.p50_ms,
            other.p99_ms,
            (one.others_percent + other.others_percent) / 2,
        )
        for load, one, other in zip(asked, alone, beside, strict=True)
    ]
