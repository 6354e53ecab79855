"""A budget against a peer is a ratio of two medians, on the same ONNX file, that has to hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.harness import Measurement
from benchmarks.peers.table import ONNX, load_name, server_name

FORETELL = "Foretell"


@dataclass(frozen=True, slots=True)
class Budget:
    """Foretell's `metric` over `connections` is at most `at_most` times the peer's."""

    says: str
    against: str
    connections: int
    metric: Literal["cpu_us", "p50_ms"]
    at_most: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of a budget; `ratio` None: the run did not measure it, and `why`."""

    says: str
    at_most: float
    ratio: float | None
    why: str = ""

    @property
    def word(self) -> str:
        """`held`, `missed` or `not measured`."""
        if self.ratio is None:
            return "not measured"
        return "held" if self.ratio <= self.at_most else "missed"

    @property
    def spoken(self) -> str:
        """The budget and its number, in words."""
        if self.ratio is None:
            return self.says + (f" ({self.why})" if self.why else "")
        return f"{self.says} (measured {self.ratio:.3f}, at most {self.at_most:.3f})"


def _cpu(peer: str, times: float) -> Budget:
    says = f"ONNX, 32 connections: at least {times:g} times less CPU per request than {peer}"
    return Budget(says, peer, 32, "cpu_us", 1 / times)


BUDGETS = (
    _cpu("mosec", 1.5),
    *(_cpu(peer, 10) for peer in ("LitServe", "BentoML", "MLServer", "Ray Serve", "Triton")),
    Budget(
        "ONNX, 1 connection: p50 at most 1.2 times that of FastAPI + ONNX Runtime, bare",
        "bare FastAPI",
        1,
        "p50_ms",
        1.2,
    ),
)


def judge(
    middle: Sequence[Measurement],
    reasons: Mapping[str, str],
    budgets: Sequence[Budget] = BUDGETS,
) -> list[Verdict]:
    """A verdict for every budget; `reasons` say by peer why one was not measured."""
    numbers = {(one.server, one.load): one for one in middle}
    verdicts = []
    for budget in budgets:
        load = load_name(budget.connections)
        ours = numbers.get((server_name(FORETELL, ONNX), load))
        theirs = numbers.get((server_name(budget.against, ONNX), load))
        if ours is None or theirs is None:
            lacking = reasons.get(FORETELL) if ours is None else reasons.get(budget.against)
            verdicts.append(Verdict(budget.says, budget.at_most, None, lacking or ""))
        else:
            ratio = getattr(ours, budget.metric) / getattr(theirs, budget.metric)
            verdicts.append(Verdict(budget.says, budget.at_most, ratio))
    return verdicts
