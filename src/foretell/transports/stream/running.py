"""A stream runs: take, score, publish, acknowledge, until the source ends or it is stopped.

What arrives while a batch is scored and published waits in the source, and is the next batch:
nothing is kept for company, and a slow sink slows the source.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foretell.transports.stream.careful import Careful
from foretell.transports.stream.message import MOST_ROWS, Message, Sink, Source
from foretell.transports.stream.scoring import Scored

Listener = Callable[[Sequence[Message], Scored], None]
"""Is told of messages that are finished, and of what became of them."""


@dataclass
class Report:
    """What became of the messages so far."""

    consumed: int = 0
    published: int = 0
    left_out: int = 0
    dead_lettered: int = 0
    batches: int = 0

    def describe(self) -> dict[str, int]:
        """This report as JSON-ready data."""
        return asdict(self)


async def run(
    source: Source,
    scorer: Careful,
    sink: Sink,
    dead: Sink,
    stop: asyncio.Event,
    listeners: Sequence[Listener] = (),
) -> Report:
    """Score `source` until its end or until `stop`; what was taken is finished. Raises StoreFailed.

    A dead letter is out before its message is acknowledged, as a result is. `listeners` hear of
    each batch that is finished.
    """
    report = Report()
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while messages := await _taken(source, stopping):
            scored = await scorer.score(messages)
            if scored.results:
                await sink.publish(scored.results)
            if scored.dead:
                await dead.publish(scored.dead)
            await scorer.keep()
            await source.acknowledge(messages)
            report.consumed += len(messages)
            report.published += len(scored.results)
            report.left_out += scored.left_out
            report.dead_lettered += len(scored.dead)
            report.batches += 1
            for told in listeners:
                told(messages, scored)
            await asyncio.sleep(0)  # where nothing waits, signals are seen nevertheless
    finally:
        stopping.cancel()
    return report


async def _taken(source: Source, stopping: asyncio.Future[Any]) -> Sequence[Message]:
    """The next messages; once `stopping` is done, only those that were read already."""
    if not stopping.done():
        taking = asyncio.ensure_future(source.take(MOST_ROWS))
        try:
            await asyncio.wait((taking, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not taking.done():
                taking.cancel()
                await asyncio.wait((taking,))
        if not taking.cancelled():
            return taking.result()
    source.finish()
    return await source.take(MOST_ROWS)
