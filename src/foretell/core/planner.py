"""The batch planner decides which rows run together, and when: time is an argument.

Rules:

1. While a place to run is free, whatever waits may leave at once, together. With `max_wait_s`
   the first to wait may be kept that long for company, unless the batch is full before.
2. While all places are taken, requests gather; they leave together when one comes back.
3. First come, first served: a batch takes requests from the front while their rows fit into
   `max_batch_rows`. Rows count, not requests.
4. A request is split only if it is larger than a batch. Its parts run one at a time, and
   after each the rest goes to the end of the queue: it starves nobody, and nobody starves it.
   A part may be larger than a batch where `max_part_rows` says so.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

Ticket = TypeVar("Ticket", bound=Hashable)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may grow, in rows, and how long its first request may be kept.

    `max_part_rows` is for a large request's part, which runs alone; None: no more than a batch.
    """

    max_batch_rows: int = 1024
    max_wait_s: float = 0.0
    max_part_rows: int | None = None


class Part(msgspec.Struct, Generic[Ticket], frozen=True):
    """Rows `start` to `stop` of the request known by `ticket`, waiting since `arrived`."""

    ticket: Ticket
    start: int
    stop: int
    arrived: float


class BatchPlanner(Generic[Ticket]):
    """Requests, known by their (hashable) tickets, that wait for one model with `places` to run."""

    __slots__ = ("_limits", "_places", "_waiting", "waiting_rows")

    def __init__(self, limits: BatchLimits, *, places: int = 1) -> None:
        self._limits = limits
        self._places = places
        self._waiting: OrderedDict[Ticket, Part[Ticket]] = OrderedDict()
        self.waiting_rows = 0

    def offer(self, ticket: Ticket, n_rows: int, now: float) -> bool:
        """Let a request of `n_rows` wait. False when the next batch will have all of it."""
        self._waiting[ticket] = Part(ticket, 0, n_rows, now)
        self.waiting_rows += n_rows
        return (
            not self._places
            or self.waiting_rows > self._limits.max_batch_rows
            or self._limits.max_wait_s > 0
        )

    def withdraw(self, ticket: Ticket) -> bool:
        """Drop what waits of a request. False when nothing of it waits (any more)."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is None:
            return False
        self.waiting_rows -= waiting.stop - waiting.start
        return True

    def dispatch(self, now: float) -> list[Part[Ticket]]:
        """The rows that run now, as one batch; none while no place is free or all may wait.

        When there are any, `returned` must follow.
        """
        due = self.due_at()
        if due is None or due > now:
            return []
        self._places -= 1
        waiting, room = self._waiting, self._limits.max_batch_rows
        if self.waiting_rows <= room:
            batch = list(waiting.values())
            waiting.clear()
            self.waiting_rows = 0
            return batch
        _, first = waiting.popitem(last=False)
        if first.stop - first.start > room:
            cut = min(first.start + (self._limits.max_part_rows or room), first.stop)
            self.waiting_rows -= cut - first.start
            if cut < first.stop:
                waiting[first.ticket] = Part(first.ticket, cut, first.stop, first.arrived)
            return [Part(first.ticket, first.start, cut, first.arrived)]
        batch, rows = [first], first.stop - first.start
        while True:
            ticket, part = waiting.popitem(last=False)
            size = part.stop - part.start
            if rows + size > room:
                waiting[ticket] = part
                waiting.move_to_end(ticket, last=False)
                break
            batch.append(part)
            rows += size
        self.waiting_rows -= rows
        return batch

    def returned(self) -> None:
        """A batch that ran has come back; its place is free."""
        self._places += 1

    def due_at(self) -> float | None:
        """When the next batch may leave; None while no place is free or nothing waits."""
        if not self._places or not self._waiting:
            return None
        arrived = next(iter(self._waiting.values())).arrived
        if self.waiting_rows >= self._limits.max_batch_rows:
            return arrived
        return arrived + self._limits.max_wait_s
