"""A flight is rows that run for everybody who asks for them: started once, whoever waits or leaves.

Rules:

1. A run belongs to nobody. Whoever leaves, or comes too late, leaves it to the others; when nobody
   is left, it is called off.
2. It is told as the future of a request is, and tells its callers in the same step: nobody waits
   for a turn of the event loop more than without a cache.
3. One row that one call alone wants is the usual case: its caller becomes a waiter only when
   somebody joins, or the row has to wait.
4. Equal rows that fail, fail once, for all who wait for them. A run of several rows may fail
   because of one of them: who waits for some of its rows asks for these again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple, Protocol

import msgspec

from foretell.core.batch import Batch
from foretell.core.call import Answer, CacheStatus, Call
from foretell.engine.hooks import BatchEnded, Dropped, VersionListener
from foretell.engine.stores.values import Value
from foretell.errors import ForetellError


class Owner(Protocol):
    """Who started a run, and sees to what comes of it."""

    def came_back(self, run: Run, outputs: Batch | None, error: Exception | None) -> None:
        """The rows of `run` have run: with these answers, or this failure."""
        ...

    def watch(self, waiter: Waiter) -> None:
        """Its lone caller became `waiter`, which may leave."""
        ...

    def left_alone(self, run: Run) -> None:
        """Its lone caller has left."""
        ...

    def off(self, run: Run) -> None:
        """Nobody waits for it any more: none may join."""
        ...


class Run(msgspec.Struct, eq=False):
    """Rows that the model is asked for; `places` says which key is which of them.

    `leader` is the call that it was started for, as long as that waits; None, when it is to renew
    what is kept. `kept`: others may join, and the answers are kept. `is_off`: nobody waited.
    `lone` is the answer of its one caller, before that is a waiter.
    """

    owner: Owner
    batch: Batch
    call: Call
    places: dict[bytes, int]
    began: float
    kept: bool = True
    lone: asyncio.Future[Answer] | None = None
    leader: Waiter | None = None
    waiters: dict[Waiter, None] = {}
    is_off: bool = False
    withdraw: Callable[[Run], object] | None = None

    def done(self) -> bool:
        """Whether nobody waits; a lone caller that left is seen here, before the row runs."""
        lone = self.lone
        if lone is None or not lone.done():
            return self.is_off
        self.owner.left_alone(self)
        self.call_off()
        return True

    def cancelled(self) -> bool:
        """Who was cancelled is told of by the cache."""
        return False

    def set_result(self, result: Answer, /) -> None:
        """The model has answered."""
        self.owner.came_back(self, result.outputs, None)

    def set_exception(self, exception: Exception, /) -> None:
        """The model has not."""
        self.owner.came_back(self, None, exception)

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """The rows must wait, and `fn` takes them out of the queue."""
        self.withdraw = fn
        self.accompany()

    def accompany(self) -> None:
        """Make a waiter of the lone caller: somebody joins, or the row has to wait."""
        lone, self.lone = self.lone, None
        if lone is not None:
            keys = tuple(self.places)
            waiter = Waiter(self.batch, self.call, lone, self.began, keys, [None], {}, set())
            waiter.leads(self, (0,))
            self.owner.watch(waiter)

    def call_off(self) -> None:
        """Nobody waits any more: the rows leave the queue."""
        self.is_off, self.lone = True, None
        self.owner.off(self)
        if self.withdraw is not None:
            self.withdraw(self)

    def left_by(self, waiter: Waiter) -> None:
        """`waiter` waits no longer; when nobody does, the rows leave the queue."""
        del self.waiters[waiter]
        if self.leader is waiter:
            self.leader = None
        if not self.waiters:
            self.call_off()


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

    def status(self) -> CacheStatus:
        """Where its rows came from, once they are there."""
        n_rows, ran = self.batch.n_rows, self.ran
        joined = sum(map(len, self.wanted.values())) - ran
        around = self.unasked or not self.keys
        return CacheStatus(n_rows - ran - joined, joined, ran, self.call.cache, around)

    def takes_all_of(self, outputs: Batch) -> bool:
        """Whether its answer is all rows of a run, in their order."""
        n_rows = self.batch.n_rows
        return n_rows == outputs.n_rows and n_rows in (1, self.ran)

    def leads(self, run: Run, rows: Sequence[int]) -> None:
        """These rows of its own come with `run`, in their order."""
        run.leader = self
        run.waiters[self] = None
        self.pending.add(run)
        self.wanted[run] = [Wanted(place, row) for place, row in enumerate(rows)]
        self.ran += len(rows)

    def wants(self, run: Run, place: int, row: int) -> None:
        """Its row `row` comes with `run`, for which it waits."""
        run.accompany()
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


def one_s_own(error: Exception) -> Exception:
    """The same failure for one more: doors write on it which row it was."""
    if not isinstance(error, ForetellError):
        return error
    own = copy(error)
    own.__cause__ = error.__cause__
    return own


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
