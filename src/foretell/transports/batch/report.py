"""A report is what became of a job; an event is how far it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `rows_total` and `parts_total` are None while nobody knows them.

    `rows_before` and `parts_before` were done by earlier runs, and are in none of the others.
    """

    rows: int
    bad: int
    parts: int
    rows_before: int
    parts_before: int
    rows_total: int | None
    parts_total: int | None
    seconds: float

    @property
    def rows_per_s(self) -> float:
        """The rate of this run."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long it will take yet; None when that cannot be told."""
        if self.rows_total is None or not self.rows:
            return None
        left = self.rows_total - self.rows - self.rows_before
        return max(0.0, left / self.rows_per_s)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a job, of all its runs together, but for `seconds` and `rows_per_s`.

    `parts_before` of its `parts` were done by earlier runs, `rows_before` of its `rows_in`.
    """

    output: str
    model: str
    version: str
    predicted_at: str
    files: int
    rows_in: int
    rows_scored: int
    bad_rows: int
    parts: int
    parts_before: int
    rows_before: int
    seconds: float
    rows_per_s: float
    quarantine: str | None = None

    def describe(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)
