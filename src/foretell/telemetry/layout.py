"""A layout says in which cell of a board each number of a server is counted.

All label sets are those of the packages that are served, and the codes of two protocols: they are
known before the first request, and none can make another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from foretell.telemetry.board import OWN

STATUSES = ("success", "error", "overloaded", "deadline_exceeded", "cancelled")
CACHE_RESULTS = ("hit", "coalesced", "miss", "bypass")
BATCH_ROWS = tuple(float(2**power) for power in range(17))
GRPC_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
LEAST_HTTP, MOST_HTTP = 100, 599


@dataclass(frozen=True, slots=True)
class Buckets:
    """The cells of one histogram: one for each of `bounds`, one for what is above, and the sum."""

    bounds: tuple[float, ...]
    first: int

    @property
    def sum(self) -> int:
        return self.first + len(self.bounds) + 1

    @property
    def end(self) -> int:
        return self.sum + 1


@dataclass(frozen=True, slots=True)
class VersionCells:
    """The cells of one version; `calls` is that of the first of STATUSES.

    `cached` is that of the first of CACHE_RESULTS.
    """

    calls: int
    latency: Buckets
    wait: Buckets
    batch_rows: Buckets
    cached: int
    saved_s: int
    evicted: int
    rejected: int
    unwritten: int
    waiting: int
    running: int
    load_s: int
    loaded_at: int
    cache_entries: int
    cache_bytes: int
    end: int

    @classmethod
    def starting(cls, first: int, seconds: tuple[float, ...]) -> VersionCells:
        """Those from `first` on, with these bounds for times."""
        latency = Buckets(seconds, first + len(STATUSES))
        wait = Buckets(seconds, latency.end)
        rows = Buckets(BATCH_ROWS, wait.end)
        saved_s = rows.end + len(CACHE_RESULTS)
        return cls(first, latency, wait, rows, rows.end, *range(saved_s, saved_s + 11))


class Door(NamedTuple):
    """The codes of one door: `least` is counted in the cell `first`, `names` are theirs in turn."""

    first: int
    least: int
    names: Sequence[str]


class Layout:
    """The cells for these versions of models; times have the upper `bounds`, in seconds."""

    def __init__(self, versions: Sequence[tuple[str, str]], bounds: tuple[float, ...]) -> None:
        http = [str(status) for status in range(LEAST_HTTP, MOST_HTTP + 1)]
        self.doors = {
            "rest": Door(OWN, LEAST_HTTP, http),
            "grpc": Door(OWN + len(http), 0, GRPC_CODES),
        }
        place = OWN + len(http) + len(GRPC_CODES)
        self.versions: dict[tuple[str, str], VersionCells] = {}
        for version in sorted(set(versions)):
            cells = VersionCells.starting(place, bounds)
            self.versions[version] = cells
            place = cells.end
        self.width = place

    @property
    def gauges(self) -> list[int]:
        """The cells that tell of now."""
        of = self.versions.values()
        return [place for cells in of for place in range(cells.waiting, cells.end)]
