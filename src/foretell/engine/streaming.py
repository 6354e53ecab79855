"""A stream of requests is answered in its order, while several of them are under way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

UNDER_WAY = 64
"""So many requests of one stream may be under way; the source is not read on meanwhile."""


async def in_order(
    source: AsyncIterator[Asked],
    begin: Callable[[Asked], Coroutine[Any, Any, Answered]],
    *,
    most: int = UNDER_WAY,
) -> AsyncGenerator["asyncio.Future[Answered]"]:
    """What `begin` makes of each of `source`, in order, as futures that are done.

    The source is read while answers are awaited, so that what comes together runs together.
    What `source` raises is raised after the answers to what came before. Whatever is under
    way when this is closed is cancelled.
    """
    begun: asyncio.Queue[asyncio.Future[Answered] | None] = asyncio.Queue()
    room = asyncio.Semaphore(most)

    async def read() -> None:
        try:
            async for asked in source:
                await room.acquire()
                begun.put_nowait(asyncio.ensure_future(begin(asked)))
        finally:
            begun.put_nowait(None)

    reading = asyncio.ensure_future(read())
    current: asyncio.Future[Answered] | None = None
    try:
        while (current := await begun.get()) is not None:
            await asyncio.wait((current,))
            yield current
            room.release()
        await reading
    finally:
        for left in (reading, current, *_left(begun)):
            if left is not None:
                left.cancel()
                left.add_done_callback(_look_at)


def _left(begun: "asyncio.Queue[asyncio.Future[Answered] | None]") -> Iterator[Any]:
    while not begun.empty():
        yield begun.get_nowait()


def _look_at(future: "asyncio.Future[Any]") -> None:
    """Nobody is interested in what became of it: asyncio shall not complain in the log."""
    if not future.cancelled():
        future.exception()
