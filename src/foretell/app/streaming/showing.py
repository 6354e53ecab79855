"""What a stream does, on one line of the terminal while it runs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from rich.console import Console
from rich.status import Status

from foretell.errors import StoreFailed
from foretell.transports.stream.brokers.waiting import AWAY
from foretell.transports.stream.message import Message, Record, Sink, Source
from foretell.transports.stream.scoring import Scored

_EVERY_S, _LAG_S = 1.0, 1.0


class Line:
    """One line that is written anew each second."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("waiting for messages", refresh_per_second=4)
        self._consumed = self._published = self._dead = 0

    def batch(self, messages: Sequence[Message], scored: Scored) -> None:
        """These are finished."""
        self._consumed += len(messages)
        self._published += len(scored.results)
        self._dead += len(scored.dead)

    @contextlib.asynccontextmanager
    async def shown(self, source: Source) -> AsyncIterator[None]:
        """Show it meanwhile; afterwards it is gone."""
        self._status.start()
        telling = asyncio.ensure_future(self._tell(source))
        try:
            yield
        finally:
            telling.cancel()
            self._status.stop()

    async def _tell(self, source: Source) -> None:
        before, then = self._consumed, time.monotonic()
        while True:
            await asyncio.sleep(_EVERY_S)
            lag = None
            with contextlib.suppress(TimeoutError, StoreFailed):
                lag = await asyncio.wait_for(source.lag(), _LAG_S)
            now = time.monotonic()
            rate = (self._consumed - before) / (now - then)
            told = [f"{self._consumed:,} messages", f"{rate:,.0f}/s"]
            told += [f"{self._published:,} published", f"{self._dead:,} dead letters"]
            if lag is not None:
                told.append(f"{lag:,} waiting")
            if AWAY:
                told.append(f"waiting for {', '.join(sorted({one.broker for one in AWAY}))}")
            self._status.update(", ".join(told))
            before, then = self._consumed, now

    def aside(self, sink: Sink) -> Sink:
        """`sink`, which writes to the same terminal: the line is away meanwhile."""
        return _Aside(self._status, sink)


class _Aside:
    def __init__(self, status: Status, sink: Sink) -> None:
        self._status, self._sink = status, sink

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish them with nothing else on the line."""
        self._status.stop()
        try:
            await self._sink.publish(records)
        finally:
            self._status.start()

    async def close(self) -> None:
        await self._sink.close()
