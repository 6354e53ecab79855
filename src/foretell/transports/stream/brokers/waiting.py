"""Waiting for a broker: an outage is sat out, with pauses that grow and one line of log."""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence

from foretell.errors import StoreFailed
from foretell.transports.stream.brokers.tls import refusal
from foretell.transports.stream.message import Message

_log = logging.getLogger("foretell.stream")
_LEAST_S, _MOST_S = 0.1, 5.0
_FINISH_S = 2.0


AWAY: "weakref.WeakSet[Outage]" = weakref.WeakSet()
"""The outages that this process sits out now."""


class Outage:
    """What happens while `broker` (a name for the log) is away."""

    def __init__(self, broker: str) -> None:
        self.broker, self._pause = broker, 0.0

    def noticed(self, error: object) -> None:
        """It is away; the first time, that is said."""
        if not self._pause:
            _log.warning("%s is away (%s); waiting for it", self.broker, error)
            self._pause = _LEAST_S
            AWAY.add(self)

    async def sit_out(self, error: object) -> None:
        """Wait some time before it is tried again. Raises StoreFailed where TLS is refused."""
        if why := refusal(error):
            raise StoreFailed(f"{self.broker} refuses: {why}") from None
        self.noticed(error)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _MOST_S)

    @property
    def lasts(self) -> bool:
        """Whether it is away."""
        return self._pause > 0

    def over(self) -> None:
        """It answers."""
        if self._pause:
            _log.warning("%s is back", self.broker)
            self._pause = 0.0
            AWAY.discard(self)


class Taking:
    """A take that goes on when whoever waits for it is cancelled; the next one has what it got."""

    def __init__(self, take: Callable[[int], Awaitable[Sequence[Message]]]) -> None:
        self._take = take
        self._task: asyncio.Future[Sequence[Message]] | None = None
        self._ended = False

    async def messages(self, most: int) -> Sequence[Message]:
        """What `take` gives, asked again until it gives something, or until the end."""
        while True:
            if self._task is None:
                if self._ended:
                    return ()
                self._task = asyncio.ensure_future(self._take(most))
            await asyncio.wait((self._task,), timeout=_FINISH_S if self._ended else None)
            task, self._task = self._task, None
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
                return ()
            if found := task.result():
                return found

    def finish(self) -> None:
        """Nothing more is asked for; what is being taken is waited for, but not long."""
        self._ended = True

    async def close(self) -> None:
        """Whatever is being taken is let go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
