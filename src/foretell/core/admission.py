"""Admission decides whether a request may wait: the queue of a model is bounded, in rows.

Rules:

1. A request is shed when its rows would not fit into `max_queue_rows` beside those that wait.
   One that is larger than the whole queue is admitted when nothing else waits.
2. Whoever is shed is told when to come back: when what waits now will have run, at the pace
   measured so far.
"""

from dataclasses import dataclass

from foretell.errors import Overloaded

_RECENT = 0.2  # weight of the newest batch in the measured pace
_LEAST_S, _MOST_S = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """The most rows that may wait for one model."""

    max_queue_rows: int = 100_000


class Pace:
    """How many rows a second a model gets through: a moving average over its batches."""

    __slots__ = ("rows_per_s",)

    def __init__(self) -> None:
        self.rows_per_s: float | None = None

    def record(self, n_rows: int, seconds: float) -> None:
        """A batch of `n_rows` took `seconds`."""
        newest = n_rows / max(seconds, 1e-6)
        known = self.rows_per_s
        self.rows_per_s = newest if known is None else known + _RECENT * (newest - known)

    def wait_s(self, n_rows: int) -> float:
        """How long `n_rows` will take, between a tenth of a second and a minute."""
        if self.rows_per_s is None:
            return 1.0
        return min(max(n_rows / self.rows_per_s, _LEAST_S), _MOST_S)


def admit(n_rows: int, waiting_rows: int, limits: AdmissionLimits, pace: Pace) -> None:
    """Raise Overloaded when a request of `n_rows` may not wait."""
    if waiting_rows and waiting_rows + n_rows > limits.max_queue_rows:
        wait_s = pace.wait_s(waiting_rows)
        raise Overloaded(
            f"{waiting_rows} rows wait already and the limit is {limits.max_queue_rows}; "
            f"come back in {wait_s:.1f} s",
            retry_after_s=wait_s,
        )
