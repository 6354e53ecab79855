"""Open streams end when their server leaves: it would wait for them as long as it may.

Rules:

1. Whoever leaves tells by a callable; it is looked at five times a second while a stream is open.
2. A stream that waits for its client is ended at once; one at work answers what it was sent, and
   reads no more. Both end with UNAVAILABLE, so that clients go on elsewhere.
3. A stream that waits for something else, such as a watched state, looks for itself.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foretell.errors import NotReady
from foretell.transports.asgi.bodies import HeldInTurn

LOOK_AGAIN_S = 0.2
"""How often is looked at what others may change, perhaps in another process."""

Leaving = Callable[[], bool]


def never() -> bool:
    """A server that does not tell when it leaves."""
    return False


def left() -> NotReady:
    """What ends a stream of a server that leaves."""
    return NotReady("this server is stopping; go on with a new stream", retry_after_s=LOOK_AGAIN_S)


class Stream:
    """One stream: until when, what it holds, and whether it is `reading`, which is to wait."""

    __slots__ = ("held", "is_to_end", "limit", "reading")

    def __init__(self, held: HeldInTurn, deadline: float | None) -> None:
        self.held = held
        self.limit = asyncio.timeout_at(deadline)
        self.reading = False
        self.is_to_end = False

    def leave(self) -> None:
        """End it, at once if nothing it was sent is still to be answered."""
        self.is_to_end = True
        if self.reading and not self.held.unanswered and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time())


class Streams:
    """The open streams of one door."""

    def __init__(self, leaving: Leaving) -> None:
        self._leaving = leaving
        self._open: set[Stream] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def opened(self, stream: Stream) -> Iterator[None]:
        """Keep `stream` in mind as long as it is open."""
        self._open.add(stream)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._open.discard(stream)

    async def _look(self) -> None:
        while self._open:
            await asyncio.sleep(LOOK_AGAIN_S)
            if self._leaving():
                for stream in self._open:
                    stream.leave()
