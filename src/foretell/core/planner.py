"""The batch planner decides which requests run together, and when: time is an argument.

Rules:

1. While nothing runs, whatever waits may leave at once, together. With `max_wait_s` the
   first to wait may be kept that long for company, unless the batch is full before.
2. While a batch runs, requests gather; they leave together when it has returned.
3. First come, first served, and requests are never split: a batch takes whole requests from
   the front while their rows fit into `max_batch_rows`. A larger request runs alone.
4. Rows count, not requests.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Ticket = TypeVar("Ticket")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may grow, in rows, and how long its first request may be kept."""

    max_batch_rows: int = 1024
    max_wait_s: float = 0.0


class BatchPlanner(Generic[Ticket]):
    """Requests, known by their tickets, that wait for one model."""

    __slots__ = ("_limits", "_running", "_waiting", "waiting_rows")

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._waiting: deque[tuple[Ticket, int, float]] = deque()
        self._running = False
        self.waiting_rows = 0

    def offer(self, ticket: Ticket, n_rows: int, now: float) -> None:
        """Let a request of `n_rows` wait."""
        self._waiting.append((ticket, n_rows, now))
        self.waiting_rows += n_rows

    def withdraw(self, ticket: Ticket) -> bool:
        """Drop a request that waits. False when it does not wait (any more)."""
        for waiting in self._waiting:
            if waiting[0] is ticket:
                self._waiting.remove(waiting)
                self.waiting_rows -= waiting[1]
                return True
        return False

    def dispatch(self, now: float) -> list[Ticket]:
        """The requests that run now, as one batch; none while one runs or all may wait.

        When there are any, `returned` must follow.
        """
        due = self.due_at()
        if due is None or due > now:
            return []
        ticket, rows, _ = self._waiting.popleft()
        batch = [ticket]
        while self._waiting and rows + self._waiting[0][1] <= self._limits.max_batch_rows:
            ticket, n_rows, _ = self._waiting.popleft()
            batch.append(ticket)
            rows += n_rows
        self.waiting_rows -= rows
        self._running = True
        return batch

    def returned(self) -> None:
        """The batch that ran has returned."""
        self._running = False

    def due_at(self) -> float | None:
        """When the next batch may leave; None while one runs or nothing waits."""
        if self._running or not self._waiting:
            return None
        arrived = self._waiting[0][2]
        if self.waiting_rows >= self._limits.max_batch_rows:
            return arrived
        return arrived + self._limits.max_wait_s
