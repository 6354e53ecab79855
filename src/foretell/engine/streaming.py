"""A stream of requests is answered in its order, while several of them are under way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
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
) -> "AsyncGenerator[asyncio.Future[Answered], None]":
    """What `begin` makes of each of `source`, in order, as futures that are done.

    The source is read while answers are awaited, so that what comes together runs together.
    One whose answer was taken, but not the next one, is still under way. What `source` or
    `begin` itself raises is raised after the answers to what came before. When this is closed
    (`contextlib.aclosing`), whatever is under way has been cancelled, and the source closed.
    """
    begun: asyncio.Queue[asyncio.Future[Answered] | None] = asyncio.Queue()
    room = asyncio.Semaphore(most)
    under_way: set[asyncio.Future[Answered]] = set()

    async def read() -> None:
        try:
            async for asked in source:
                await room.acquire()
                answering = asyncio.ensure_future(begin(asked))
                under_way.add(answering)
                begun.put_nowait(answering)
        finally:
            begun.put_nowait(None)
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    reading = asyncio.ensure_future(read())
    try:
        while (current := await begun.get()) is not None:
            if not current.done():
                await asyncio.wait((current,))
            yield current
            under_way.discard(current)
            room.release()
        await reading
    finally:
        # What became of them is of no interest any more, and looked at all the same: asyncio
        # would complain of an error that nobody has seen.
        left: list[asyncio.Future[Any]] = [reading, *under_way]
        for future in left:
            future.cancel()
        await asyncio.gather(*left, return_exceptions=True)
