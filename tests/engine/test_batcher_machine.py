"""The batcher under arbitrary arrivals, cancellations, failures and deadlines: time is cranked.

Every row is a number of its own, so an answer that reached somebody else's request, a lost, a
doubled or a reordered row is seen.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from foretell.core.admission import AdmissionLimits
from foretell.core.batch import Batch
from foretell.core.call import Answer, Call
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.planner import BatchLimits
from foretell.engine.batcher import Batcher
from foretell.engine.executors import Outcome, ProcessDied, attempt
from foretell.engine.hooks import BatchBegan, BatchEnded, CacheHeld, CacheUsed, Dropped
from foretell.errors import DeadlineExceeded, Overloaded
from tests.engine.cranked import CrankedLoop

FIELDS = (Field("x", Datatype.FP64),)
MAX_BATCH_ROWS, MAX_QUEUE_ROWS = 5, 12


class SlowExecutor:
    """A place to run that gives its answers when the test says so."""

    places = 1
    most_rows = None

    def __init__(self, loop: CrankedLoop) -> None:
        self.loop = loop
        self.guilty: set[float] = set()
        self.deadlines: dict[float, float] = {}
        self.out: tuple[list[Batch], asyncio.Future[list[Outcome]]] | None = None
        self.started: list[float] = []

    def run(self, batches: Sequence[Batch]) -> asyncio.Future[list[Outcome]]:
        assert self.out is None, "two batches are out, but there is one place"
        assert sum(batch.n_rows for batch in batches) <= MAX_BATCH_ROWS
        rows = [row[0] for batch in batches for row in batch.rows]
        late = [n for n in rows if self.deadlines.get(n, self.loop.now + 1) <= self.loop.now]
        assert not late, "rows run whose deadline has passed"
        self.started += rows
        future = self.loop.create_future()
        self.out = (list(batches), future)
        return future

    def finish(self, *, dies: bool) -> None:
        assert self.out is not None
        (batches, future), self.out = self.out, None
        predict = self.die if dies else self.double
        future.set_result(attempt(predict, batches))

    def die(self, batch: Batch) -> Batch:
        raise ProcessDied("gone")

    def double(self, batch: Batch) -> Batch:
        values = batch.matrix[:, 0]
        found = self.guilty.intersection(values.tolist())
        if found:
            raise ValueError(min(found))
        return Batch.from_columns(FIELDS, [values * 2])

    def close(self) -> None:
        """Nothing is held."""


class Heard:
    """All that the batcher told."""

    def __init__(self) -> None:
        self.running = self.queued = self.rows = 0
        self.waited_s: list[float] = []
        self.answered_s: list[float] = []
        self.failed_s: list[float] = []
        self.drops: Counter[Dropped] = Counter()

    def began(self, event: BatchBegan) -> None:
        self.running += event.n_rows
        self.rows += event.n_rows
        self.waited_s += event.waited_s

    def ended(self, event: BatchEnded) -> None:
        self.running -= event.n_rows
        self.answered_s += event.answered_s
        self.failed_s += event.failed_s

    def dropped(self, why: Dropped) -> None:
        self.drops[why] += 1

    def waiting(self, n_rows: int) -> None:
        self.queued = n_rows

    def cache_used(self, event: CacheUsed) -> None:
        raise AssertionError("there is no cache")

    def cache_held(self, event: CacheHeld) -> None:
        raise AssertionError("there is no cache")


@dataclass(eq=False)
class Asked:
    rows: list[float]
    deadline: float | None
    answer: asyncio.Future[Answer]
    cancelled: bool = False
    may_have_died: bool = False


class Batching(RuleBasedStateMachine):
    @initialize(max_wait_s=st.sampled_from([0.0, 0.3]))
    def start(self, max_wait_s: float) -> None:
        self.loop = CrankedLoop()
        asyncio._set_running_loop(self.loop.as_loop)
        self.executor = SlowExecutor(self.loop)
        self.waits = bool(max_wait_s)
        self.batcher = Batcher(
            self.executor,
            BatchLimits(MAX_BATCH_ROWS, max_wait_s),
            AdmissionLimits(MAX_QUEUE_ROWS),
            clock=self.loop.time,
            listener=(heard := Heard()),
        )
        self.heard = heard
        self.numbers = itertools.count(1)
        self.asked: list[Asked] = []
        self.shed = 0

    @rule(
        n_rows=st.integers(1, 13),
        guilty=st.none() | st.integers(0, 12),
        within=st.none() | st.floats(-0.1, 2),
    )
    def submit(self, n_rows: int, guilty: int | None, within: float | None) -> None:
        rows = [float(next(self.numbers)) for _ in range(n_rows)]
        if guilty is not None and guilty < n_rows:
            self.executor.guilty.add(rows[guilty])
        deadline = None if within is None else self.loop.now + within
        if deadline is not None:
            self.executor.deadlines.update(dict.fromkeys(rows, deadline))
        try:
            batch = Batch.from_rows(FIELDS, [(n,) for n in rows])
            answer = self.batcher.submit(batch, Call("", deadline))
        except Overloaded:
            self.shed += 1
            waiting = self.batcher._planner.waiting_rows
            assert waiting + len(rows) > MAX_QUEUE_ROWS
        else:
            self.asked.append(Asked(rows, deadline, answer))

    @rule()
    def turn(self) -> None:
        self.loop.turn()

    @rule()
    def nothing_that_may_run_is_kept(self) -> None:
        self.loop.turn_until_quiet()
        due = self.batcher._planner.due_at()
        assert due is None or due > self.loop.now

    @rule(step=st.floats(0, 0.5))
    def time_passes(self, step: float) -> None:
        self.loop.now += step

    @precondition(lambda self: any(not one.answer.done() for one in self.asked))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        one = data.draw(st.sampled_from([one for one in self.asked if not one.answer.done()]))
        one.cancelled = one.answer.cancel()
        started = set(self.executor.started)
        before = len(self.executor.started)
        self.loop.turn_until_quiet()
        later = set(self.executor.started[before:])
        assert not later & (set(one.rows) - started), "rows of a cancelled request ran"

    @precondition(lambda self: self.executor.out is not None)
    @rule(dies=st.sampled_from([False, False, False, True]))
    def finish(self, dies: bool) -> None:
        if dies:
            assert self.executor.out is not None
            gone = {row[0] for batch in self.executor.out[0] for row in batch.rows}
            for one in self.asked:
                one.may_have_died |= bool(gone & set(one.rows))
        self.executor.finish(dies=dies)

    @invariant()
    def no_timer_is_armed_unless_somebody_asked_for_one(self) -> None:
        if not self.waits and all(one.deadline is None for one in self.asked):
            assert self.loop.timers_armed == 0

    @invariant()
    def only_rows_that_somebody_awaits_take_room_in_the_queue(self) -> None:
        awaited = sum(len(one.rows) for one in self.asked if not one.answer.done())
        assert self.batcher._planner.waiting_rows <= awaited

    @invariant()
    def who_listens_knows_how_many_rows_run(self) -> None:
        if self.executor.out is not None:
            assert self.heard.running == sum(b.n_rows for b in self.executor.out[0])

    @invariant()
    def nothing_is_started_twice(self) -> None:
        assert len(self.executor.started) == len(set(self.executor.started))

    def teardown(self) -> None:
        """Whatever happened, everybody is answered, with what is theirs."""
        while self.executor.out is not None or any(not a.answer.done() for a in self.asked):
            self.loop.turn_until_quiet()
            if self.executor.out is not None:
                self.executor.finish(dies=False)
            elif (due := self.loop.next_timer()) is not None:
                self.loop.now = max(self.loop.now, due)
            else:
                assert all(one.answer.done() for one in self.asked), "somebody waits for ever"
        self.loop.turn_until_quiet()
        assert self.batcher._planner.waiting_rows == 0
        for one in self.asked:
            self.check(one)
        self.check_what_was_heard()
        asyncio._set_running_loop(None)

    def check_what_was_heard(self) -> None:
        """Each call is told of once, as what became of it."""
        ended = [_end_of(one.answer) for one in self.asked]
        heard = self.heard
        assert heard.drops[Dropped.OVERLOADED] == self.shed
        assert heard.drops[Dropped.CANCELLED] == ended.count(asyncio.CancelledError)
        assert heard.drops[Dropped.DEADLINE_EXCEEDED] == ended.count(DeadlineExceeded)
        assert len(heard.answered_s) == ended.count(None)
        assert len(heard.failed_s) == ended.count(ValueError) + ended.count(ProcessDied)
        assert all(seconds >= 0 for seconds in heard.waited_s + heard.answered_s + heard.failed_s)
        assert (heard.running, heard.queued) == (0, 0)
        assert heard.rows == len(self.executor.started)
        begun = set(self.executor.started)
        assert len(heard.waited_s) == sum(one.rows[0] in begun for one in self.asked)

    def check(self, one: Asked) -> None:
        assert one.answer.cancelled() == one.cancelled
        if one.cancelled:
            return
        error = one.answer.exception()
        if error is None:
            assert one.answer.result().outputs.column("x").tolist() == [2 * n for n in one.rows]
            assert not self.executor.guilty.intersection(one.rows)
        elif isinstance(error, DeadlineExceeded):
            assert one.deadline is not None
            assert one.deadline <= self.loop.now
        elif isinstance(error, ProcessDied):
            assert one.may_have_died
        else:
            assert isinstance(error, ValueError)
            assert error.args[0] in self.executor.guilty.intersection(one.rows)


def _end_of(answer: asyncio.Future[Answer]) -> type[BaseException] | None:
    if answer.cancelled():
        return asyncio.CancelledError
    error = answer.exception()
    return None if error is None else type(error)


TestBatching = Batching.TestCase
