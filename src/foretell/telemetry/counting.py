"""Counting listens to the engine and the doors, and counts in this worker's slot of a board.

A request costs two additions to buckets besides its share of its batch's records; what that is in
all is measured by `benchmarks.counting`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

from foretell.engine.hooks import (
    BatchBegan,
    BatchEnded,
    CacheHeld,
    CacheUsed,
    Dropped,
    Replied,
    VersionLoaded,
)
from foretell.telemetry.board import Board, Cells
from foretell.telemetry.layout import STATUSES, Buckets, Layout, VersionCells


class Counting:
    """This process as one that counts; `reloading` says whether it leaves for a successor."""

    def __init__(self, board: Board, layout: Layout, reloading: Callable[[], bool]) -> None:
        self._board = board
        self._layout = layout
        self._reloading = reloading
        self._cells = board.claim()

    def loaded(self, event: VersionLoaded) -> None:
        """A version is there."""
        cells = self._layout.versions[event.model, event.version]
        self._cells[cells.load_s] = event.seconds
        self._cells[cells.loaded_at] = time.time()

    def version(self, model: str, version: str) -> CountingVersion:
        """Who counts what this version does."""
        return CountingVersion(self._cells, self._layout.versions[model, version])

    def door(self, name: str) -> Replied:
        """Who counts the replies of this door."""
        door, cells = self._layout.doors[name], self._cells
        shift, most = door.first - door.least, door.least + len(door.names)
        least = door.least

        def replied(code: int) -> None:
            if least <= code < most:
                cells[shift + code] += 1

        return replied

    def closed(self) -> None:
        """The process has answered its last request."""
        self._board.leave(for_reload=self._reloading())


class CountingVersion:
    """Counts what one version does."""

    __slots__ = (
        "_cache_bytes",
        "_cache_entries",
        "_cached",
        "_cells",
        "_evicted",
        "_failed",
        "_first_dropped",
        "_latencies",
        "_rejected",
        "_rows",
        "_running",
        "_saved_s",
        "_succeeded",
        "_unwritten",
        "_waiting",
        "_waits",
    )

    def __init__(self, cells: Cells, places: VersionCells) -> None:
        self._cells = cells
        self._succeeded = places.calls + STATUSES.index("success")
        self._failed = places.calls + STATUSES.index("error")
        self._first_dropped = places.calls + STATUSES.index("overloaded")
        self._cached = places.cached
        self._saved_s = places.saved_s
        self._evicted = places.evicted
        self._rejected = places.rejected
        self._unwritten = places.unwritten
        self._cache_entries = places.cache_entries
        self._cache_bytes = places.cache_bytes
        self._waiting = places.waiting
        self._running = places.running
        self._latencies = _observing(cells, places.latency)
        self._waits = _observing(cells, places.wait)
        self._rows = _observing(cells, places.batch_rows)

    def began(self, event: BatchBegan) -> None:
        """A batch begins to run."""
        n_rows = event.n_rows
        self._cells[self._running] += n_rows
        self._rows((n_rows,))
        self._waits(event.waited_s)

    def ended(self, event: BatchEnded) -> None:
        """A batch has run."""
        self._cells[self._running] -= event.n_rows
        self._count(event.answered_s, event.failed_s)

    def _count(self, answered: Sequence[float], failed: Sequence[float]) -> None:
        cells = self._cells
        if answered:
            cells[self._succeeded] += len(answered)
            self._latencies(answered)
        if failed:
            cells[self._failed] += len(failed)
            self._latencies(failed)

    def dropped(self, why: Dropped) -> None:
        """A call ended without the model's answer."""
        self._cells[self._first_dropped + why] += 1

    def waiting(self, n_rows: int) -> None:
        """So many rows wait."""
        self._cells[self._waiting] = n_rows

    def cache_used(self, event: CacheUsed) -> None:
        """A call was answered by way of the result cache."""
        cells, first = self._cells, self._cached
        if event.hits:
            cells[first] += event.hits
            cells[self._saved_s] += event.saved_s
        if event.misses:
            cells[first + 2] += event.misses
        if event.joined or event.bypassed:
            cells[first + 1] += event.joined
            cells[first + 3] += event.bypassed
        self._count(event.answered_s, event.failed_s)

    def cache_held(self, event: CacheHeld) -> None:
        """What the result cache has, has changed."""
        cells = self._cells
        cells[self._cache_entries] = event.entries
        cells[self._cache_bytes] = event.n_bytes
        cells[self._evicted] += event.evicted
        cells[self._rejected] += event.rejected
        cells[self._unwritten] += event.unwritten


def _observing(cells: Cells, buckets: Buckets) -> Callable[[Sequence[float]], None]:
    """What adds values to a histogram."""
    first, bounds, total = buckets.first, buckets.bounds, buckets.sum

    def observe(values: Sequence[float]) -> None:
        if len(values) == 1:  # a model that nobody else asks now: here each request pays for all
            cells[first + bisect_left(bounds, values[0])] += 1
            cells[total] += values[0]
            return
        for value in values:
            cells[first + bisect_left(bounds, value)] += 1
        cells[total] += sum(values)

    return observe
