"""A batcher drives one model's planner with the event loop: many requests, one prediction.

A request that finds the model free joins those that arrived in the same turn of the loop,
and runs at the turn's end: no timer is armed unless a deadline or `max_wait_s` asks for one.
"""

import asyncio
import time
from collections.abc import Sequence

from foretell.core.admission import AdmissionLimits, Pace, admit
from foretell.core.batch import Batch
from foretell.core.planner import BatchLimits, BatchPlanner, Part
from foretell.engine.executors import Executor, Outcome
from foretell.errors import DeadlineExceeded


class _Request:
    """One caller's rows, the parts that came back, and the future it awaits."""

    __slots__ = ("batch", "deadline", "done", "outputs")

    def __init__(
        self, batch: Batch, deadline: float | None, outputs: "asyncio.Future[Batch]"
    ) -> None:
        self.batch = batch
        self.deadline = deadline
        self.outputs = outputs
        self.done: list[Batch] = []


class Batcher:
    """Runs the joined rows of concurrent requests on `executor`."""

    def __init__(self, executor: Executor, limits: BatchLimits, admission: AdmissionLimits) -> None:
        self._executor = executor
        self._admission = admission
        self._pace = Pace()
        self._planner: BatchPlanner[_Request] = BatchPlanner(limits, places=executor.places)
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, batch: Batch, deadline: float | None = None) -> Batch:
        """The outputs for `batch`, before the monotonic clock (the loop's) reaches `deadline`.

        Raises Overloaded, DeadlineExceeded, and what the model raises for these rows alone.
        """
        loop = self._loop
        if loop is None or loop.is_closed():  # asking costs a system call
            loop = self._loop = asyncio.get_running_loop()
        planner = self._planner
        admit(
            batch.n_rows,
            waiting_rows=planner.waiting_rows,
            limits=self._admission,
            pace=self._pace,
        )
        request = _Request(batch, deadline, loop.create_future())
        planner.offer(request, batch.n_rows, time.monotonic())
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn, loop)
        alarm = None if deadline is None else loop.call_at(deadline, self._expire, request)
        try:
            return await request.outputs
        except asyncio.CancelledError:
            planner.withdraw(request)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def _expire(self, request: _Request) -> None:
        self._planner.withdraw(request)
        if not request.outputs.done():
            request.outputs.set_exception(
                DeadlineExceeded("the deadline passed before the model answered")
            )

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """The end of a turn: run what may leave, and see to it that the rest is not forgotten."""
        self._scheduled = False
        now = time.monotonic()
        parts = self._planner.dispatch(now)
        if parts:
            self._start(parts, now, loop)
        self._schedule(loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = self._planner.due_at()
        if due is None or self._scheduled:
            return
        self._scheduled = True
        if due <= time.monotonic():
            loop.call_soon(self._turn, loop)
        else:
            loop.call_at(due, self._turn, loop)

    def _start(
        self, parts: Sequence[Part[_Request]], now: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        wanted: list[Part[_Request]] = []
        for part in parts:
            request = part.ticket
            if request.deadline is not None and request.deadline <= now:
                self._expire(request)
            if not request.outputs.done():
                wanted.append(part)
        if not wanted:
            self._planner.returned()
            return
        running = self._executor.run([_rows(part) for part in wanted])
        if isinstance(running, list):
            self._came_back(wanted, running, time.monotonic() - now)
            return

        def back(future: "asyncio.Future[list[Outcome]]") -> None:
            self._came_back(wanted, future.result(), time.monotonic() - now)
            self._schedule(loop)

        running.add_done_callback(back)

    def _came_back(
        self, parts: Sequence[Part[_Request]], outcomes: Sequence[Outcome], seconds: float
    ) -> None:
        self._planner.returned()
        self._pace.record(sum(part.stop - part.start for part in parts), seconds)
        for (request, _, stop), outcome in zip(parts, outcomes, strict=True):
            future = request.outputs
            if future.done():
                continue  # it was cancelled, or its deadline passed
            if isinstance(outcome, Exception):
                self._planner.withdraw(request)
                future.set_exception(outcome)
            elif stop == request.batch.n_rows:
                future.set_result(
                    Batch.concat([*request.done, outcome]) if request.done else outcome
                )
            else:
                request.done.append(outcome)

    def close(self) -> None:
        """Let go of the executor."""
        self._executor.close()


def _rows(part: Part[_Request]) -> Batch:
    request, start, stop = part
    batch = request.batch
    return batch if stop - start == batch.n_rows else batch.slice(start, stop)
