"""A batcher drives one model's planner with the event loop: many requests, one prediction.

A request that finds the model free joins those that arrived in the same turn of the loop,
and runs at the turn's end: no timer is armed unless `max_wait_s` asks for one.
"""

import asyncio
from collections.abc import Callable, Sequence

from foretell.core.batch import Batch
from foretell.core.planner import BatchLimits, BatchPlanner
from foretell.errors import ModelFailed

Predict = Callable[[Batch], Batch]


class _Request:
    __slots__ = ("batch", "outputs")

    def __init__(self, batch: Batch, outputs: "asyncio.Future[Batch]") -> None:
        self.batch = batch
        self.outputs = outputs


class Batcher:
    """Runs `predict` over the joined rows of concurrent requests, on the event loop."""

    def __init__(self, predict: Predict, limits: BatchLimits) -> None:
        self._predict = predict
        self._planner: BatchPlanner[_Request] = BatchPlanner(limits)
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, batch: Batch) -> Batch:
        """The outputs for `batch`. Raises what `predict` raises for its rows alone."""
        loop = self._loop
        if loop is None or loop.is_closed():  # asking costs a system call
            loop = self._loop = asyncio.get_running_loop()
        request = _Request(batch, loop.create_future())
        self._planner.offer(request, batch.n_rows, loop.time())
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn, loop)
        try:
            return await request.outputs
        except asyncio.CancelledError:
            self._planner.withdraw(request)
            raise

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """The end of a turn: run what may leave, and see to it that the rest is not forgotten."""
        self._scheduled = False
        requests = self._planner.dispatch(loop.time())
        if requests:
            self._settle([request for request in requests if not request.outputs.done()])
            self._planner.returned()
        due = self._planner.due_at()
        if due is not None:
            self._scheduled = True
            if due <= loop.time():
                loop.call_soon(self._turn, loop)
            else:
                loop.call_at(due, self._turn, loop)

    def _settle(self, requests: Sequence[_Request]) -> None:
        """Run requests together; when that fails, in halves, until the guilty fail alone."""
        if not requests:
            return
        try:
            outputs = self._predict(Batch.concat([request.batch for request in requests]))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model may raise anything, sys.exit() included
            if len(requests) == 1:
                requests[0].outputs.set_exception(_carried(error))
                return
            middle = len(requests) // 2
            self._settle(requests[:middle])
            self._settle(requests[middle:])
            return
        parts = outputs.split([request.batch.n_rows for request in requests])
        for request, part in zip(requests, parts, strict=True):
            request.outputs.set_result(part)


def _carried(error: BaseException) -> Exception:
    """`error` as a future can carry it: these two would end the loop or be refused."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carried = ModelFailed(f"its code raised {type(error).__name__}")
    carried.__cause__ = error
    return carried
