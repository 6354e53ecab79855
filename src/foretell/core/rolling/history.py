"""A history is what is kept of one key: its recent events, in the order in which they came.

An event that comes again is found by its id, and sees what it saw the first time: nothing that
came after it, and no event twice. For that, an event outlives its windows until its key has had
`AGAIN` more batches: whoever was killed between two acknowledgements gives the same messages
again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from foretell.core.rolling.windows import Feature, Windows

AGAIN = 4
"""So many batches of a key may come again."""

_MOST = 1e100
"""No value is larger: its square has room in a double."""

Number = int | float


class Event(NamedTuple):
    """What is kept of a message: an id, its time, the values of the fields, its batch's number."""

    id: int
    at: float
    values: tuple[float | None, ...]
    batch: int = 0


class History:
    """The events of one key. `batches` counts those that it had a part in."""

    __slots__ = ("_ids", "_windows", "batches", "events")

    def __init__(self, windows: Windows, events: Sequence[Event] = (), batches: int = 0) -> None:
        self._windows, self.events, self.batches = windows, [*events], batches
        self._ids = {event.id: place for place, event in enumerate(self.events)}

    def features(self, event: Event) -> dict[str, Number | None]:
        """The features of `event`, which may be one of these events or the next one."""
        place = self._ids.get(event.id)
        events, last = self.events, place
        if last is None:
            events, last = [*self.events, event], len(self.events)
        columns = {field: number for number, field in enumerate(self._windows.fields)}
        starts: dict[tuple[int | None, float | None], int] = {}
        told: dict[str, Number | None] = {}
        for feature in self._windows.features:
            span = (feature.events, feature.seconds)
            if span not in starts:
                starts[span] = self._start(events, last, feature)
            told[feature.name] = _told(
                feature, events[starts[span] : last + 1], columns[feature.field]
            )
        return told

    def _start(self, events: Sequence[Event], last: int, feature: Feature) -> int:
        if feature.seconds is None:
            return max(last + 1 - (feature.events or 1), 0)
        after, start = events[last].at - feature.seconds, last
        least = max(last + 1 - self._windows.max_events, 0)
        while start > least and events[start - 1].at > after:
            start -= 1
        return start

    def append(self, event: Event) -> bool:
        """It has happened, and whether that is news: one that is known changes nothing."""
        if event.id in self._ids:
            return False
        self._ids[event.id] = len(self.events)
        self.events.append(event._replace(batch=self.batches))
        return True

    def finish(self) -> None:
        """A batch is over: what no window of an event that may come again has is forgotten."""
        recent = self.batches - AGAIN
        first = len(self.events)
        while first and self.events[first - 1].batch > recent:
            first -= 1
        self.batches += 1
        if first < len(self.events):
            spans = self._windows.features
            keep = min(self._start(self.events, first, feature) for feature in spans)
            if keep:
                del self.events[:keep]
                self._ids = {event.id: place for place, event in enumerate(self.events)}


def _told(feature: Feature, events: Sequence[Event], column: int) -> Number | None:
    values = [value for event in events if (value := event.values[column]) is not None]
    if feature.statistic == "rate":
        told = [(event.at, event.values[column]) for event in events]
        return _rate([(at, value) for at, value in told if value is not None])
    return (
        _STATISTICS[feature.statistic](values) if values or feature.statistic == "count" else None
    )


def _std(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _rate(told: Sequence[tuple[float, float]]) -> float | None:
    if not told:
        return None
    (begin, first), (end, last) = told[0], told[-1]
    return (last - first) / (end - begin) if end > begin else 0.0


_STATISTICS: dict[str, Callable[[Sequence[float]], Number]] = {
    "count": len,
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "std": _std,
}


def number_of(told: object) -> float | None:
    """A value that windows count, or None."""
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return float(told) if -_MOST <= told <= _MOST else None
