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
from dataclasses import replace
from functools import partial

from foretell.core.batch import Batch
from foretell.core.call import Answer, CacheStatus, CacheUse, Call
from foretell.core.manifest import Manifest
from foretell.engine.batcher import Batcher
from foretell.engine.hooks import CacheUsed, Dropped, VersionListener
from foretell.engine.stores.flight import Run, Waiter, Wanted, one_s_own
from foretell.engine.stores.keys import Keys, identity
from foretell.engine.stores.store import NOWHERE, Counts, Found, Store
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
            if n_rows == 1 and use is CacheUse.USE:
                quick = self._quick(keys[0], batch, call, loop)
                if quick is not None:
                    return quick
        if not keys or use is not CacheUse.USE:
            found = _NONE
        else:
            told = self._store.find(keys)
            if not isinstance(told, Found):
                waiter = self._waiter(batch, call, keys, loop)
                self.watch(waiter)
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
            self.watch(waiter)
        return waiter.answer

    def _waiter(
        self, batch: Batch, call: Call, keys: Sequence[bytes], loop: asyncio.AbstractEventLoop
    ) -> Waiter:
        found: list[Value | None] = [None] * batch.n_rows
        answer: asyncio.Future[Answer] = loop.create_future()
        return Waiter(batch, call, answer, self._clock(), keys, found, {}, set())

    def _quick(
        self, key: bytes, batch: Batch, call: Call, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[Answer] | None:
        """The answer to one row that memory has and is not to be made anew, or nobody has or asks.

        None when it is neither. Raises Overloaded.
        """
        value = self._store.near(key)
        if value is None:
            return None
        if value is NOWHERE:
            if call.deadline is not None or key in self._flights:
                return None
            answer: asyncio.Future[Answer] = loop.create_future()
            run = Run(self, batch, call, {key: 0}, self._clock(), True, answer)
            self._batcher.submit_for(run, batch, call)
            self._flights[key] = run
            return answer
        outputs = self._values.one(value)
        if outputs is None:
            return None
        answer = loop.create_future()
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
        told = CacheUsed(1, 0, 0, 0, self._mean_s, (0.0,), ())
        for future, answer in hits:
            if future.done():
                self._drop(Dropped.CANCELLED)
                continue
            if self._listener is not None:
                self._listener.cache_used(told)
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
            self._run(waiter.batch.take([row]), waiter.call, {waiter.keys[row]: 0}, kept=True)

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
            if run is None or run.done():
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
            if run is not None and not run.done():
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
        run = self._run(wanted, waiter.call, places, kept=bool(waiter.keys))
        waiter.leads(run, rows)
        return run

    def _run(self, batch: Batch, call: Call, places: dict[bytes, int], *, kept: bool) -> Run:
        """Have rows run, on nobody's deadline. Raises Overloaded."""
        if call.deadline is not None:
            call = Call(call.request_id, None, call.traceparent)
        run = Run(self, batch, call, places, self._clock(), kept)
        self._batcher.submit_for(run, batch, call)
        if kept:
            for key in places:
                self._flights[key] = run
        return run

    def watch(self, waiter: Waiter) -> None:
        """See to it when `waiter` leaves, or its deadline passes."""
        waiter.answer.add_done_callback(partial(self._left, waiter))
        deadline = waiter.call.deadline
        if deadline is not None:
            waiter.alarm = waiter.answer.get_loop().call_at(deadline, self._expire, waiter)

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

    def off(self, run: Run) -> None:
        """None may join `run` any more."""
        for key in run.places if run.kept else ():
            if self._flights.get(key) is run:
                del self._flights[key]

    def left_alone(self, _: Run) -> None:
        """Whoever wanted the one row of a run has left."""
        self._drop(Dropped.CANCELLED)

    def came_back(self, run: Run, outputs: Batch | None, error: Exception | None) -> None:
        """Answer all who wait for `run`."""
        self.off(run)
        values: Sequence[Value] = ()
        if outputs is not None:
            took_s = self._clock() - run.began
            self._mean_s += (took_s - self._mean_s) * (_SHARE if self._mean_s else 1.0)
            if run.kept:
                values = self._keep(run, outputs)
        lone = run.lone
        if lone is not None:
            self._answer_lone(run, lone, outputs, error)
            return
        waiters, run.waiters = run.waiters, {}
        for waiter in waiters:
            waiter.pending.discard(run)
            if waiter.answer.done():
                continue
            if error is not None:
                self._fail(waiter, run, error)
                continue
            if outputs is not None and waiter.takes_all_of(outputs):
                self._answer(waiter, outputs)
                continue
            for place, row in waiter.wanted[run]:
                waiter.found[row] = values[place]
            if not waiter.pending:
                self._finish(waiter)
        run.leader = None

    def _answer_lone(
        self,
        run: Run,
        lone: asyncio.Future[Answer],
        outputs: Batch | None,
        error: Exception | None,
    ) -> None:
        """Answer the only one who waits for a run of one row."""
        if outputs is not None:
            lone.set_result(Answer(outputs, *self._version, _MISS))
            if self._listener is not None:
                self._tell(0, 0, 1, answered_s=(self._clock() - run.began,))
        elif error is not None:
            lone.set_exception(error)
            self._tell(0, 0, 0, failed_s=(self._clock() - run.began,))

    def _keep(self, run: Run, outputs: Batch) -> Sequence[Value]:
        """Keep the answers, and give them as values."""
        store, dtypes = self._store, self._values.dtypes_of(outputs)
        write, put = self._values.write, store.put
        values = [Value(dtypes, row) for row in outputs.plain_rows()]
        for key, place in run.places.items():
            value = write(values[place])
            if value is not None:
                put(key, value)
        if self._listener is not None:
            counts = self._store.counts
            held = counts.since(self._told)
            if held.evicted or held.rejected or held.unwritten:
                self._told = replace(counts)
            self._listener.cache_held(held)
        return values

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
        took = (self._clock() - waiter.arrived,)
        status = waiter.status()
        waiter.answer.set_result(Answer(outputs, *self._version, status))
        if status.bypassed:
            self._tell(0, 0, 0, bypassed=waiter.batch.n_rows, answered_s=took)
        else:
            self._tell(status.hits, status.joined, status.ran, answered_s=took)

    def _fail(self, waiter: Waiter, run: Run, error: Exception) -> None:
        """Tell a call that a run failed; of one that wants a part of its rows, these run again."""
        places = {wanted.place for wanted in waiter.wanted[run]}
        if waiter is not run.leader and len(places) < len(run.places):
            self._ask_again(waiter, [wanted.row for wanted in waiter.wanted.pop(run)])
            return
        waiter.answer.set_exception(error if waiter is run.leader else one_s_own(error))
        waiter.leave()
        self._tell(0, 0, 0, failed_s=(self._clock() - waiter.arrived,))
