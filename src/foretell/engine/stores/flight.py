"""A flight is rows that run for everybody who asks for them: started once, whoever waits or leaves.

Rules:

1. A run belongs to nobody. Whoever leaves, or comes too late, leaves it to the others; when nobody
   is left, it is called off.
2. Equal rows that fail, fail once, for all who wait for them. A run of several rows may fail
   because of one of them: who waits for some of its rows asks for these again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from foretell.core.batch import Batch
from foretell.core.call import Answer, Call
from foretell.engine.hooks import BatchEnded, Dropped, VersionListener
from foretell.engine.stores.values import Value
from foretell.errors import DeadlineExceeded


class Run(msgspec.Struct, eq=False):
    """Rows that the model is asked for; `places` says which key is which of them.

    `leader` is the call that it was started for, as long as that waits; None, when it is to renew
    what is kept. `kept`: others may join, and the answers are kept. `is_off`: nobody waited.
    """

    leader: Waiter | None
    places: dict[bytes, int]
    began: float
    kept: bool
    asked: asyncio.Future[Answer]
    waiters: dict[Waiter, None]
    is_off: bool = False

    def left_by(self, waiter: Waiter) -> None:
        """`waiter` waits no longer; when nobody does, the rows leave the queue."""
        del self.waiters[waiter]
        if self.leader is waiter:
            self.leader = None
        if not self.waiters and not self.asked.done():
            self.is_off = True
            self.asked.set_exception(DeadlineExceeded("nobody waits for these rows any more"))


class Wanted(NamedTuple):
    """A row of a call's batch that comes with a run, as its row `place`."""

    place: int
    row: int


class Waiter(msgspec.Struct, eq=False):
    """A call that waits: `found` has its rows that are there, `wanted` those that come with a run.

    Without `keys` it goes around the cache; `unasked`: the store gave no answer. `ran` of its rows
    are run for it, `pending` are the runs that it waits for.
    """

    batch: Batch
    call: Call
    answer: asyncio.Future[Answer]
    arrived: float
    keys: Sequence[bytes]
    found: list[Value | None]
    wanted: dict[Run, list[Wanted]]
    pending: set[Run]
    ran: int = 0
    unasked: bool = False
    alarm: asyncio.TimerHandle | None = None

    def takes_all_of(self, outputs: Batch) -> bool:
        """Whether its answer is all rows of a run, in their order."""
        n_rows = self.batch.n_rows
        return n_rows == outputs.n_rows and n_rows in (1, self.ran)

    def wants(self, run: Run, place: int, row: int) -> None:
        """Its row `row` comes with `run`, for which it waits."""
        several = self.wanted.get(run)
        if several is None:
            self.wanted[run] = [Wanted(place, row)]
            self.pending.add(run)
            run.waiters[self] = None
        else:
            several.append(Wanted(place, row))

    def go_around(self) -> None:
        """Begin again without the cache."""
        self.keys, self.wanted, self.ran = (), {}, 0
        self.found = [None] * self.batch.n_rows

    def leave(self) -> None:
        """Wait for nothing any more."""
        for run in self.pending:
            run.left_by(self)
        self.pending.clear()
        if self.alarm is not None:
            self.alarm.cancel()


class Runs:
    """Who listens to a batcher in whose front a cache is: of calls, the cache tells.

    A call may take part in several of the batcher's runs, and a run be for several calls.
    """

    def __init__(self, listener: VersionListener) -> None:
        self.began = listener.began
        self.waiting = listener.waiting
        self.cache_used = listener.cache_used
        self.cache_held = listener.cache_held
        self._listener = listener

    def ended(self, event: BatchEnded) -> None:
        """A batch has run."""
        self._listener.ended(BatchEnded(event.n_rows, [], []))

    def dropped(self, why: Dropped) -> None:
        """Rows were refused, or are not wanted any more."""
        if why is Dropped.OVERLOADED:
            self._listener.dropped(why)
