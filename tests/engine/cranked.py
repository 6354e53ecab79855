"""A cranked loop is an event loop whose time and turns pass only when the test says so."""

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable
from typing import Any, cast


class CrankedLoop:
    """What futures and the batcher need of a loop: callbacks, timers, a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers_armed = 0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()

    @property
    def as_loop(self) -> asyncio.AbstractEventLoop:
        """Itself, for those who take a whole event loop and use only what is here."""
        return cast("asyncio.AbstractEventLoop", self)

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.as_loop)

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self.as_loop, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        self.timers_armed += 1
        handle = asyncio.TimerHandle(when, callback, args, self.as_loop, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when they are due."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise AssertionError(f"the loop was told of {context}")

    def turn(self) -> bool:
        """One turn: the timers that are due, and what was ready. False when there was nothing."""
        while self._timers and self._timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(self._timers)[2])
        ready, self._ready = self._ready, []
        for handle in ready:
            if not handle.cancelled():
                handle._run()  # as every event loop runs its handles
        return bool(ready)

    def turn_until_quiet(self) -> None:
        """Turns until nothing is ready; timers that are not due yet stay."""
        while self.turn():
            pass

    def next_timer(self) -> float | None:
        """When the next timer that was not cancelled is due."""
        return min(
            (when for when, _, handle in self._timers if not handle.cancelled()), default=None
        )
