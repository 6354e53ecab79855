"""A budget is a limit for one number of a run; a verdict says whether it held.

Most budgets are ratios of two measurements of one run, because absolute times differ from
machine to machine and from hour to hour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
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
        """`number` with the unit: 5.31×, 0.4 %, 97 MiB.

        Where rounding would change whether it keeps to the limit, it has more digits.
        """  # noqa: RUF002
        digits = 0 if abs(number) >= 100 else 2 if abs(number) < 10 else 1
        while math.isfinite(number) and self.holds(round(number, digits)) != self.holds(number):
            digits += 1
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


WORDS = ("held", "missed", "not measured")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of a limit; `measured` None: the run did not measure it.

    `why` is what else there is to say, such as the reason.
    """

    says: str
    limit: Limit
    measured: float | None
    why: str = ""

    @property
    def word(self) -> str:
        """One of WORDS."""
        if self.measured is None:
            return "not measured"
        return "held" if self.limit.holds(self.measured) else "missed"

    def __str__(self) -> str:
        told = [str(self.limit)]
        if self.measured is not None:
            told.insert(0, self.limit.spoken(self.measured))
        return f"{self.says}: {', '.join(told)}" + (f" ({self.why})" if self.why else "")

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "says": self.says,
            "limit": str(self.limit),
            "measured": self.measured,
            "verdict": self.word,
            **({"why": self.why} if self.why else {}),
        }


@dataclass(frozen=True, slots=True)
class Budget:
    """Under `load`: `server`'s `metric`, divided by that of `against`, together."""

    says: str
    load: str
    server: str
    against: tuple[str, ...]
    metric: Metric
    limit: Limit


GRPC_LOAD = "one row, 32 at once"
TENSOR_LOADS = ("1 MiB over REST", "1 MiB over gRPC")

# By the scenario that measures them (scenarios.py).
BUDGETS = {
    "one-row": (
        Budget(
            "one row, 32 connections: Foretell's CPU per request over the floor's",
            "one row, 32 connections",
            "foretell",
            ("floor",),
            "cpu_us",
            at_most(6),
        ),
        Budget(
            "one row, 32 connections: the usual recipe's CPU per request over Foretell's",
            "one row, 32 connections",
            "usual recipe",
            ("foretell",),
            "cpu_us",
            at_least(40),
        ),
        Budget(
            "one row, 1 connection: Foretell's p50 over the usual recipe's",
            "one row, 1 connection",
            "foretell",
            ("usual recipe",),
            "p50_ms",
            at_most(0.6),
        ),
    ),
    "many-rows": tuple(
        Budget(
            f"{load}: Foretell's CPU over that of decoding, one model call and encoding",
            load,
            "foretell",
            ("lower bound",),
            "cpu_us",
            at_most(1.5),
        )
        for load in ("1,000 objects", "1,000 arrays", "100,000 objects")
    ),
    "grpc": (
        Budget(
            "one row over gRPC: Foretell's CPU per request over the floor's",
            GRPC_LOAD,
            "foretell over gRPC",
            ("floor",),
            "cpu_us",
            at_most(8),
        ),
        *(
            Budget(
                f"one row over gRPC: {theirs}'s CPU per request over Foretell's",
                GRPC_LOAD,
                theirs,
                ("foretell over gRPC",),
                "cpu_us",
                at_least(4),
            )
            for theirs in ("grpcio", "grpcio.aio")
        ),
    ),
    "tensors": tuple(
        Budget(
            f"{load}: Foretell's CPU over that of an echo and the model alone",
            load,
            "foretell",
            ("echo", "model alone"),
            "cpu_us",
            at_most(1.5),
        )
        for load in TENSOR_LOADS
    ),
}


def judge(
    budgets: Sequence[Budget],
    found: Sequence[Measurement],
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> list[Verdict]:
    """A verdict for every budget, from one measurement a server and load.

    `reasons` say by server why it was not measured.
    """
    numbers = {(one.server, one.load): one for one in found}
    verdicts = []
    for budget in budgets:
        names = (budget.server, *budget.against)
        there = [numbers[name, budget.load] for name in names if (name, budget.load) in numbers]
        if len(there) == len(names):
            ours, *theirs = (getattr(one, budget.metric) for one in there)
            verdicts.append(Verdict(budget.says, budget.limit, ours / sum(theirs)))
        else:
            why = "; ".join(reasons[name] for name in names if name in reasons)
            verdicts.append(Verdict(budget.says, budget.limit, None, why))
    return verdicts
