"""A cached batcher answers rows that were answered before, and has the others run.

Rules:

1. It stands where the batcher of a version does, and raises what that raises. A batch's rows are
   looked up one by one; only those that miss are submitted, and come back in their order.
2. What it answers is, byte for byte, what the model answered when these rows ran.
3. Equal rows that are asked for at the same time run once (`flight`).
4. Failures are not kept. Neither is what a request told not to keep.
5. A request of more than `most_rows` rows goes past it: looking up so many would keep others
   waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import partial

from foretell.core.batch import Batch
from foretell.core.call import Answer, CacheStatus, CacheUse, Call
from foretell.core.manifest import Manifest
from foretell.engine.batcher import Batcher
from foretell.engine.hooks import CacheHeld, CacheUsed, Dropped, VersionListener
from foretell.engine.stores.flight import Run, Waiter, Wanted
from foretell.engine.stores.keys import Keys, identity
from foretell.engine.stores.store import Counts, Found, Store
from foretell.engine.stores.values import Value, Values
from foretell.errors import DeadlineExceeded, ForetellError, Overloaded

_HIT = CacheStatus(1, 0, 0)
_MISS = CacheStatus(0, 0, 1)
_NONE = Found(())
_FIRST = (0,)
_SHARE = 0.05
"""Of the mean time of a run, how much the last one weighs."""


class Cached:
    """Answers calls for one version from `store`, and from `batcher` what is not there."""

    def __init__(
        self,
        batcher: Batcher,
        store: Store,
        manifest: Manifest,
        *,
        most_rows: int = 1024,
        clock: Callable[[], float] = time.monotonic,
        listener: VersionListener | None = None,
    ) -> None:
        self._batcher = batcher
        self._store = store
        self._keys = Keys(identity(manifest), manifest.signature.inputs)
        self._values = Values(manifest.signature.outputs)
        self._version = manifest.name, manifest.version
        self._most_rows = most_rows
        self._clock = clock
        self._listener = listener
        self._flights: dict[bytes, Run] = {}
        self._mean_s = 0.0
        self._hit_told = CacheUsed(1, 0, 0, 0, 0.0, (0.0,), ())
        self._hits: list[tuple[asyncio.Future[Answer], Answer]] = []
        self._told = Counts()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, batch: Batch, call: Call) -> asyncio.Future[Answer]:
        """The answer to `batch`, as `Batcher.submit` gives it."""
        loop = self._loop
        if loop is None or loop.is_closed():  # asking costs a system call
            loop = self._loop = asyncio.get_running_loop()
        n_rows, use = batch.n_rows, call.cache
        if use is CacheUse.NONE or n_rows > self._most_rows:
            keys: Sequence[bytes] = ()
        else:
            keys = self._keys.of(batch)
            if n_rows == 1 and use is CacheUse.USE and (hit := self._hit(keys[0], loop)):
                return hit
        if not keys or use is not CacheUse.USE:
            found = _NONE
        else:
            told = self._store.find(keys)
            if not isinstance(told, Found):
                waiter = self._waiter(batch, call, keys, loop)
                self._wait(waiter, loop)
                told.add_done_callback(lambda told: self._looked_up(waiter, told.result()))
                return waiter.answer
            found = told
        waiter = self._waiter(batch, call, keys, loop)
        if found is not _NONE:
            self._take(waiter, found)
        self._ask(waiter, range(n_rows))
        if not waiter.pending:
            self._finish(waiter)
        if not waiter.answer.done():
            self._wait(waiter, loop)
        return waiter.answer

    def _waiter(
        self, batch: Batch, call: Call, keys: Sequence[bytes], loop: asyncio.AbstractEventLoop
    ) -> Waiter:
        found: list[Value | None] = [None] * batch.n_rows
        answer: asyncio.Future[Answer] = loop.create_future()
        return Waiter(batch, call, answer, self._clock(), keys, found, {}, set())

    def _hit(self, key: bytes, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Answer] | None:
        """The answer to one row that memory has, and is not to be made anew: the quick way."""
        value = self._store.near(key)
        outputs = None if value is None else self._values.one(value)
        if outputs is None:
            return None
        answer: asyncio.Future[Answer] = loop.create_future()
        if not self._hits:
            loop.call_soon(self._answer_hits)
        self._hits.append((answer, Answer(outputs, *self._version, _HIT)))
        return answer

    def _answer_hits(self) -> None:
        """At the end of a turn, as the batcher does: what has come is read before it is answered.

        Otherwise each request would be read, answered and sent by itself, which costs the server
        more than a quick model does.
        """
        hits, self._hits = self._hits, []
        for future, answer in hits:
            if future.done():
                self._drop(Dropped.CANCELLED)
                continue
            if self._listener is not None:
                self._listener.cache_used(self._hit_told)
            future.set_result(answer)

    def _looked_up(self, waiter: Waiter, found: Found) -> None:
        """The store has answered, or has not in time."""
        if waiter.answer.done():
            return
        self._take(waiter, found)
        self._ask_again(waiter, range(waiter.batch.n_rows))
        if not waiter.pending and not waiter.answer.done():
            self._finish(waiter)

    def _take(self, waiter: Waiter, found: Found) -> None:
        waiter.unasked = not found.asked
        waiter.found = [
            None if value is None else self._read(waiter.keys[row], value)
            for row, value in enumerate(found.values)
        ]
        for row in found.due:
            if waiter.found[row] is not None and waiter.keys[row] not in self._flights:
                self._refresh(waiter, row)

    def _read(self, key: bytes, value: bytes) -> Value | None:
        """The row in `value`; one that is none of this model's is forgotten."""
        read = self._values.read(value)
        if read is None:
            self._store.drop(key)
        return read

    def _refresh(self, waiter: Waiter, row: int) -> None:
        """Have a row run for nobody, before what is kept of it ends."""
        with suppress(Overloaded):  # then it runs when it is missed
            self._run(None, waiter.batch.take([row]), waiter.call, {waiter.keys[row]: 0})

    def _tell(
        self,
        hits: int,
        joined: int,
        ran: int,
        *,
        bypassed: int = 0,
        answered_s: Sequence[float] = (),
        failed_s: Sequence[float] = (),
    ) -> None:
        if self._listener is not None:
            saved_s = self._mean_s if hits and not joined and not ran else 0.0
            told = CacheUsed(hits, joined, ran, bypassed, saved_s, answered_s, failed_s)
            self._listener.cache_used(told)

    @property
    def answers_at_once(self) -> bool:
        """Whether rows that are known are answered before the event loop turns."""
        return self._store.answers_at_once

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _ask(self, waiter: Waiter, rows: Iterable[int]) -> None:
        """Submit those of `rows` that are not there, unless under way. Raises Overloaded."""
        if not waiter.keys:
            self._run_for(waiter, {b"": 0}, list(rows))
            return
        joins = waiter.call.cache is CacheUse.USE
        if len(waiter.keys) == 1 and waiter.found[0] is None:  # quicker, and nearly every request
            (key,) = waiter.keys
            run = self._flights.get(key) if joins else None
            if run is None or run.is_off:
                self._run_for(waiter, {key: 0}, _FIRST)
            else:
                waiter.wants(run, run.places[key], 0)
            return
        joined: list[tuple[Run, int, int]] = []
        places: dict[bytes, int] = {}
        missing: list[int] = []
        again: list[tuple[int, int]] = []
        for row in rows:
            if waiter.found[row] is not None:
                continue
            key = waiter.keys[row]
            run = self._flights.get(key) if joins else None
            if run is not None and not run.is_off:
                joined.append((run, run.places[key], row))
            elif key in places:
                again.append((places[key], row))
            else:
                places[key] = len(missing)
                missing.append(row)
        if missing:
            run = self._run_for(waiter, places, missing)
            waiter.wanted[run] += [Wanted(place, row) for place, row in again]
        for run, place, row in joined:
            waiter.wants(run, place, row)

    def _run_for(self, waiter: Waiter, places: dict[bytes, int], rows: Sequence[int]) -> Run:
        """Have these rows of a call run. Raises Overloaded."""
        batch = waiter.batch
        wanted = batch if len(rows) == batch.n_rows else batch.take(rows)
        run = self._run(waiter, wanted, waiter.call, places)
        waiter.pending.add(run)
        waiter.wanted[run] = [Wanted(place, row) for place, row in enumerate(rows)]
        waiter.ran += len(rows)
        return run

    def _run(
        self, leader: Waiter | None, batch: Batch, call: Call, places: dict[bytes, int]
    ) -> Run:
        """Have rows run, on nobody's deadline. Raises Overloaded."""
        if call.deadline is not None:
            call = Call(call.request_id, None, call.traceparent)
        asked = self._batcher.submit(batch, call)
        kept = leader is None or bool(leader.keys)
        waiters: dict[Waiter, None] = {} if leader is None else {leader: None}
        run = Run(leader, places, self._clock(), kept, asked, waiters)
        if run.kept:
            for key in places:
                self._flights[key] = run
        asked.add_done_callback(partial(self._came_back, run))
        return run

    def _wait(self, waiter: Waiter, loop: asyncio.AbstractEventLoop) -> None:
        waiter.answer.add_done_callback(partial(self._left, waiter))
        deadline = waiter.call.deadline
        if deadline is not None:
            waiter.alarm = loop.call_at(deadline, self._expire, waiter)

    def _left(self, waiter: Waiter, _: object) -> None:
        if waiter.pending or waiter.alarm is not None:
            waiter.leave()
        if waiter.answer.cancelled():
            self._drop(Dropped.CANCELLED)

    def _expire(self, waiter: Waiter) -> None:
        if not waiter.answer.done():
            late = DeadlineExceeded("the deadline passed before the model answered")
            waiter.answer.set_exception(late)
            waiter.leave()
            self._drop(Dropped.DEADLINE_EXCEEDED)

    def _drop(self, why: Dropped) -> None:
        if self._listener is not None:
            self._listener.dropped(why)

    def _came_back(self, run: Run, _: object) -> None:
        for key in run.places if run.kept else ():
            if self._flights.get(key) is run:
                del self._flights[key]
        error = run.asked.exception()
        values: list[Value] = []
        if error is None:
            outputs = run.asked.result().outputs
            share = _SHARE if self._mean_s else 1.0
            self._mean_s += (self._clock() - run.began - self._mean_s) * share
            self._hit_told = CacheUsed(1, 0, 0, 0, self._mean_s, (0.0,), ())
            if run.kept:
                values = self._keep(run, outputs)
        waiters, run.waiters = run.waiters, {}
        for waiter in waiters:
            waiter.pending.discard(run)
            if waiter.answer.done():
                continue
            if error is not None:
                self._fail(waiter, run, error)
                continue
            if waiter.takes_all_of(outputs):
                self._answer(waiter, outputs)
                continue
            for place, row in waiter.wanted[run]:
                waiter.found[row] = values[place]
            if not waiter.pending:
                self._finish(waiter)
        run.leader = None

    def _keep(self, run: Run, outputs: Batch) -> list[Value]:
        """Keep the answers, and give them as values."""
        store, dtypes = self._store, self._values.dtypes_of(outputs)
        values = [Value(dtypes, row) for row in outputs.plain_rows()]
        write, put = self._values.write, store.put
        for key, place in run.places.items():
            value = write(values[place])
            if value is not None:
                put(key, value)
        if self._listener is not None:
            self._listener.cache_held(self._held())
        return values

    def _held(self) -> CacheHeld:
        now, before = self._store.counts, self._told
        evicted = now.evicted - before.evicted
        rejected = now.rejected - before.rejected
        unwritten = now.unwritten - before.unwritten
        if evicted or rejected or unwritten:
            self._told = replace(now)
        return CacheHeld(now.entries, now.n_bytes, evicted, rejected, unwritten)

    def _finish(self, waiter: Waiter) -> None:
        """Answer a call of which all rows are there."""
        try:
            outputs = self._values.joined([one for one in waiter.found if one is not None])
        except (ValueError, TypeError, OverflowError):  # rows that do not fit together, as those
            # of a free size: as it may be, they run together
            waiter.go_around()
            self._ask_again(waiter, range(waiter.batch.n_rows))
        else:
            self._answer(waiter, outputs)

    def _ask_again(self, waiter: Waiter, rows: Iterable[int]) -> None:
        try:
            self._ask(waiter, rows)
        except ForetellError as error:
            waiter.answer.set_exception(error)
            waiter.leave()

    def _answer(self, waiter: Waiter, outputs: Batch) -> None:
        """Answer a call."""
        n_rows, ran = waiter.batch.n_rows, waiter.ran
        joined = sum(map(len, waiter.wanted.values())) - ran
        hits = n_rows - ran - joined
        took = (self._clock() - waiter.arrived,)
        around = waiter.unasked or not waiter.keys
        if n_rows == ran == 1 and not around and waiter.call.cache is CacheUse.USE:
            status = _MISS
        else:
            status = CacheStatus(hits, joined, ran, waiter.call.cache, around)
        waiter.answer.set_result(Answer(outputs, *self._version, status))
        if not around:
            self._tell(hits, joined, ran, answered_s=took)
        else:
            self._tell(0, 0, 0, bypassed=n_rows, answered_s=took)

    def _fail(self, waiter: Waiter, run: Run, error: BaseException) -> None:
        """Tell a call that a run failed; of one that wants a part of its rows, these run again."""
        places = {wanted.place for wanted in waiter.wanted[run]}
        if waiter is not run.leader and len(places) < len(run.places):
            self._ask_again(waiter, [wanted.row for wanted in waiter.wanted.pop(run)])
            return
        if waiter is not run.leader and isinstance(error, ForetellError):
            own = copy(error)  # doors write on it which row it was
            own.__cause__ = error.__cause__
            error = own
        waiter.answer.set_exception(error)
        waiter.leave()
        self._tell(0, 0, 0, failed_s=(self._clock() - waiter.arrived,))
