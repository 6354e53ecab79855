"""A batcher drives one model's planner with the event loop: many requests, one prediction.

A request that finds the model free joins those that arrived in the same turn of the loop,
and runs at the turn's end: no timer is armed unless `max_wait_s` asks for one, or a deadline of
what that turn has not answered.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from foretell.core.admission import AdmissionLimits, Pace, admit
from foretell.core.batch import Batch
from foretell.core.call import Answer, Call
from foretell.core.planner import BatchLimits, BatchPlanner, Part
from foretell.engine.executors import Executor, Outcome
from foretell.engine.hooks import BatchBegan, BatchEnded, Dropped, VersionListener
from foretell.errors import DeadlineExceeded, ModelFailed, Overloaded


class Asker(Protocol):
    """Who is told what became of a request: a future, or what can be told as one."""

    def done(self) -> bool:
        """Whether nobody wants to be told any more."""
        ...

    def cancelled(self) -> bool:
        """Whether that is because it was cancelled."""
        ...

    def set_result(self, result: Answer, /) -> None:
        """The model's answer."""
        ...

    def set_exception(self, exception: Exception, /) -> None:
        """Why there is none."""
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Call `fn` with this when it is done before it was told."""
        ...


class _Request(msgspec.Struct, eq=False):
    """A request that was admitted: its rows, who waits for them, and what came back so far.

    `watched`: its end is seen wherever it comes from. Of others it is seen by the only batch
    they are in.
    """

    batch: Batch
    call: Call
    answer: Asker
    done_parts: list[Batch] | None = None
    watched: bool = False


Told = Callable[[Exception, Call], Exception]
"""What the caller of a request is told that a model failed with this error."""


@dataclass(slots=True)
class Tally:
    """What one version has done since it was loaded; times are sums, in seconds.

    `last_run` is on the clock of the batcher.
    """

    requests: int = 0
    batches: int = 0
    rows: int = 0
    failed: int = 0
    waited_s: float = 0.0
    ran_s: float = 0.0
    last_run: float | None = None


class Batcher:
    """Runs the joined rows of concurrent requests on `executor`, where one version is loaded."""

    def __init__(
        self,
        executor: Executor,
        limits: BatchLimits,
        admission: AdmissionLimits,
        *,
        version: tuple[str, str] = ("", ""),
        told: Told = lambda error, call: error,
        clock: Callable[[], float] = time.monotonic,
        listener: VersionListener | None = None,
    ) -> None:
        self.tally = Tally()
        self._version = version
        self._told = told
        self._clock = clock
        self._listener = listener
        self._waiting_told = 0
        self._executor = executor
        self._admission = admission
        self._pace = Pace()
        self._planner: BatchPlanner[_Request] = BatchPlanner(
            _limited(limits, executor.most_rows), places=executor.places
        )
        self._scheduled = False
        self._dated: list[_Request] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, batch: Batch, call: Call) -> asyncio.Future[Answer]:
        """The answer to `batch`, before the monotonic clock (the loop's) reaches the deadline.

        Raises Overloaded at once; the future raises DeadlineExceeded, and what is `told` of the
        model's failures for these rows alone. A future that is cancelled takes its rows out of
        the queue.
        """
        loop = self._loop
        if loop is None or loop.is_closed():  # asking costs a system call
            loop = self._loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self.submit_for(answer, batch, call)
        return answer

    def submit_for(self, answer: Asker, batch: Batch, call: Call) -> None:
        """The same, for whom is told in `answer`."""
        loop = self._loop
        if loop is None or loop.is_closed():  # asking costs a system call
            loop = self._loop = asyncio.get_running_loop()
        planner = self._planner
        n_rows = batch.n_rows
        try:
            admit(n_rows, planner.waiting_rows, self._admission, self._pace)
        except Overloaded:
            self._drop(Dropped.OVERLOADED)
            raise
        request = _Request(batch, call, answer)
        if planner.offer(request, n_rows, self._clock()):
            request.watched = True
            answer.add_done_callback(lambda answer: self._settled(request, answer))
            self._tell_waiting()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn, loop)
        if call.deadline is not None:
            self._dated.append(request)

    def _drop(self, why: Dropped) -> None:
        if self._listener is not None:
            self._listener.dropped(why)

    def _tell_waiting(self) -> None:
        rows = self._planner.waiting_rows
        if rows != self._waiting_told and self._listener is not None:
            self._waiting_told = rows
            self._listener.waiting(rows)

    def _withdraw(self, request: _Request) -> None:
        if self._planner.withdraw(request):
            self._tell_waiting()

    def _settled(self, request: _Request, answer: Asker) -> None:
        """A request that could wait for long has ended: whatever of it waits is of no use."""
        self._withdraw(request)
        if answer.cancelled():
            self._drop(Dropped.CANCELLED)

    def _passed_over(self, request: _Request) -> None:
        """A batch is without a request that has ended before."""
        if not request.watched and request.answer.cancelled():
            self._drop(Dropped.CANCELLED)

    def _expire(self, request: _Request) -> None:
        self._withdraw(request)
        if not request.answer.done():
            self._drop(Dropped.DEADLINE_EXCEEDED)
            late = DeadlineExceeded("the deadline passed before the model answered")
            request.answer.set_exception(late)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """The end of a turn: run what may leave, and see to it that the rest is not forgotten."""
        self._scheduled = False
        now = self._clock()
        parts = self._planner.dispatch(now)
        if parts:
            self._tell_waiting()
            self._start(parts, now, loop)
        if self._dated:
            self._watch_deadlines(loop)
        self._schedule(loop)

    def _watch_deadlines(self, loop: asyncio.AbstractEventLoop) -> None:
        """Arm a timer for each request with a deadline that this turn has not answered."""
        dated, self._dated = self._dated, []
        for request in dated:
            deadline, answer = request.call.deadline, request.answer
            if deadline is not None and not answer.done():
                alarm = loop.call_at(deadline, self._expire, request)
                answer.add_done_callback(functools.partial(_silence, alarm))

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = self._planner.due_at()
        if due is None:
            return
        if due > self._clock():
            if self._alarm is None:
                self._alarm = loop.call_at(due, self._ring, loop)
        elif not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        """The wait that was asked for is over, for whoever waited first when it began."""
        self._alarm = None
        self._turn(loop)

    def _start(
        self, parts: Sequence[Part[_Request]], now: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        wanted: list[Part[_Request]] = []
        batches: list[Batch] = []
        n_rows, arrived = 0, 0.0
        for part in parts:
            request, start, stop = part.ticket, part.start, part.stop
            deadline = request.call.deadline
            if deadline is not None and deadline <= now:
                self._expire(request)
            if request.answer.done():
                self._passed_over(request)
                continue  # whoever asked has left, or is told that it is too late
            batch = request.batch
            wanted.append(part)
            batches.append(batch if stop - start == batch.n_rows else batch.slice(start, stop))
            n_rows += stop - start
            arrived += part.arrived
        if not wanted:
            self._planner.returned()
            return
        tally = self.tally
        tally.requests += len(wanted)
        tally.batches += 1
        tally.rows += n_rows
        tally.waited_s += len(wanted) * now - arrived
        tally.last_run = now
        if self._listener is not None:
            waited = [now - part.arrived for part in wanted if not part.start]
            self._listener.began(BatchBegan(n_rows, waited))
        running = self._executor.run(batches)
        if isinstance(running, list):
            self._came_back(wanted, running, n_rows, now)
            return

        def back(future: "asyncio.Future[list[Outcome]]") -> None:
            self._came_back(wanted, future.result(), n_rows, now)
            self._schedule(loop)

        running.add_done_callback(back)

    def _came_back(
        self,
        parts: Sequence[Part[_Request]],
        outcomes: Sequence[Outcome],
        n_rows: int,
        began: float,
    ) -> None:
        now = self._clock()
        self._planner.returned()
        self._pace.record(n_rows, now - began)
        self.tally.ran_s += now - began
        model, version = self._version
        answered: list[float] = []
        failed: list[float] = []
        for part, outcome in zip(parts, outcomes, strict=True):
            request = part.ticket
            answer = request.answer
            if answer.done():
                self._passed_over(request)  # it was cancelled, or its deadline passed
                continue
            whole = True
            if isinstance(outcome, Exception):
                self._withdraw(request)
                self.tally.failed += 1
                answer.set_exception(self._told(outcome, request.call))
                whole = False
            elif part.stop != request.batch.n_rows:
                request.done_parts = request.done_parts or []
                request.done_parts.append(outcome)
                continue
            elif request.done_parts is None:
                answer.set_result(Answer(outcome, model, version))
            else:
                whole = self._join([*request.done_parts, outcome], request)
            (answered if whole else failed).append(now - part.arrived)
        if self._listener is not None:
            self._listener.ended(BatchEnded(n_rows, answered, failed))

    def _join(self, parts: list[Batch], request: _Request) -> bool:
        """Answer `request`, of which all parts came back; False when they do not fit together."""
        try:
            outputs = Batch.concat(parts)
        except ValueError as error:  # of a shape that may have any size, each had its own
            differ = ModelFailed(f"its answers to parts of one request differ: {error}")
            request.answer.set_exception(self._told(differ, request.call))
            return False
        request.answer.set_result(Answer(outputs, *self._version))
        return True

    def close(self) -> None:
        """Let go of the executor."""
        self._executor.close()


def _limited(limits: BatchLimits, most_rows: int | None) -> BatchLimits:
    """The limits where no more than `most_rows` run at a time.

    Only where that is known may a part be larger than a batch: it is short nevertheless.
    """
    if most_rows is None:
        return replace(limits, max_part_rows=None)
    batch = min(limits.max_batch_rows, most_rows)
    part = min(limits.max_part_rows or batch, most_rows)
    return replace(limits, max_batch_rows=batch, max_part_rows=part)


def _silence(alarm: asyncio.TimerHandle, _: object) -> None:
    alarm.cancel()
