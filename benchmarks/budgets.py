"""A budget is a ratio of two measurements in one run that has to hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.harness import Measurement


@dataclass(frozen=True, slots=True)
class Budget:
    """`server`'s `metric` under `load` is at most `at_most` times that of `against`."""

    says: str
    load: str
    server: str
    against: str
    metric: Literal["cpu_us", "p50_ms", "p99_ms"]
    at_most: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of a budget; `ratio` None: the run did not measure it."""

    says: str
    at_most: float
    ratio: float | None

    @property
    def word(self) -> str:
        """`held`, `missed` or `not measured`."""
        if self.ratio is None:
            return "not measured"
        return "held" if self.ratio <= self.at_most else "missed"


BUDGETS = (
    Budget(
        "one row, 32 connections: at most a third of the usual recipe's CPU per request",
        load="one row, 32 connections",
        server="foretell",
        against="usual recipe",
        metric="cpu_us",
        at_most=1 / 3,
    ),
)


def judge(found: Sequence[Measurement]) -> list[Verdict]:
    """A verdict for every budget."""
    numbers = {(one.server, one.load): one for one in found}
    verdicts = []
    for budget in BUDGETS:
        ours = numbers.get((budget.server, budget.load))
        theirs = numbers.get((budget.against, budget.load))
        ratio: float | None = None
        if ours is not None and theirs is not None:
            ratio = getattr(ours, budget.metric) / getattr(theirs, budget.metric)
        verdicts.append(Verdict(budget.says, budget.at_most, ratio))
    return verdicts
