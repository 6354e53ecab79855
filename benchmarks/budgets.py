"""A budget is a limit for one number of a run; a verdict says whether it held.

Most budgets are ratios of two measurements of one run, because absolute times differ from
machine to machine and from hour to hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.harness import Measurement

Metric = Literal["cpu_us", "p50_ms", "p99_ms"]


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest number that is allowed, or the smallest, with its unit."""

    number: float
    unit: str
    smallest: bool = False

    def holds(self, measured: float) -> bool:
        """Whether `measured` keeps to it; the limit itself still does, NaN does not."""
        return measured >= self.number if self.smallest else measured <= self.number

    def spoken(self, number: float) -> str:
        """`number` with the unit: 5.31×, 0.4 %, 97 MiB."""  # noqa: RUF002
        digits = 0 if abs(number) >= 100 else 2 if abs(number) < 10 else 1
        text = f"{number:,.{digits}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        return text + ("" if self.unit in ("", "×") else " ") + self.unit  # noqa: RUF001

    def __str__(self) -> str:
        return f"at {'least' if self.smallest else 'most'} {self.spoken(self.number)}"


def at_most(number: float, unit: str = "×") -> Limit:  # noqa: RUF001
    """A limit from above."""
    return Limit(number, unit)


def at_least(number: float, unit: str = "×") -> Limit:  # noqa: RUF001
    """A limit from below."""
    return Limit(number, unit, smallest=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of a limit; `measured` None: the run did not measure it."""

    says: str
    limit: Limit
    measured: float | None

    @property
    def word(self) -> str:
        """`held`, `missed` or `not measured`."""
        if self.measured is None:
            return "not measured"
        return "held" if self.limit.holds(self.measured) else "missed"

    def __str__(self) -> str:
        told = "" if self.measured is None else f"{self.limit.spoken(self.measured)}, "
        return f"{self.says}: {told}{self.limit}"

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "says": self.says,
            "limit": str(self.limit),
            "measured": self.measured,
            "verdict": self.word,
        }


@dataclass(frozen=True, slots=True)
class Budget:
    """In `scenario`, under `load`: `server`'s `metric`, divided by that of `against`."""

    scenario: str
    says: str
    load: str
    server: str
    against: str
    metric: Metric
    limit: Limit


BUDGETS = (
    Budget(
        scenario="one-row",
        says="one row, 32 connections: Foretell's CPU per request over the floor's",
        load="one row, 32 connections",
        server="foretell",
        against="floor",
        metric="cpu_us",
        limit=at_most(6),
    ),
    Budget(
        scenario="one-row",
        says="one row, 32 connections: the usual recipe's CPU per request over Foretell's",
        load="one row, 32 connections",
        server="usual recipe",
        against="foretell",
        metric="cpu_us",
        limit=at_least(40),
    ),
    Budget(
        scenario="one-row",
        says="one row, 1 connection: Foretell's p50 over the usual recipe's",
        load="one row, 1 connection",
        server="foretell",
        against="usual recipe",
        metric="p50_ms",
        limit=at_most(0.6),
    ),
    *(
        Budget(
            scenario="many-rows",
            says=f"{load}: Foretell's CPU over that of decoding, one model call and encoding",
            load=load,
            server="foretell",
            against="lower bound",
            metric="cpu_us",
            limit=at_most(1.5),
        )
        for load in ("1,000 objects", "1,000 arrays", "100,000 objects")
    ),
)


def judge(scenario: str, found: Sequence[Measurement]) -> list[Verdict]:
    """A verdict for every budget of `scenario`, from one measurement a server and load."""
    numbers = {(one.server, one.load): one for one in found}
    verdicts = []
    for budget in BUDGETS:
        if budget.scenario != scenario:
            continue
        ours = numbers.get((budget.server, budget.load))
        theirs = numbers.get((budget.against, budget.load))
        ratio: float | None = None
        if ours is not None and theirs is not None:
            ratio = getattr(ours, budget.metric) / getattr(theirs, budget.metric)
        verdicts.append(Verdict(budget.says, budget.limit, ratio))
    return verdicts
