"""Streams as they are carried out: the model loaded, the places opened, signals heard."""

import asyncio
import contextlib
import functools
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from foretell.engine.fleet import Loaded
from foretell.errors import BadSettings
from foretell.transports.stream.careful import Careful
from foretell.transports.stream.message import Message, Sink, Source
from foretell.transports.stream.running import Report
from foretell.transports.stream.scoring import Choices, Scored, Scorer


class Places(NamedTuple):
    """Where messages come from, and where results and dead letters go."""

    source: str
    sink: str
    dead: str


def stream(  # noqa: PLR0913 - one keyword for each flag
    model: str | Path,
    source: str = "-",
    sink: str = "-",
    *,
    dead_letters: str = "stderr",
    emit: Literal["prediction", "merged"] = "prediction",
    key: str | None = None,
    when: str | None = None,
    format: Literal["json", "msgpack", "arrow"] = "json",  # noqa: A002 - the flag's name
    attempts: int = 3,
    metrics_bind: str | None = None,
) -> Report:
    """Score the messages of `source`, publish results to `sink`, and report when it has ended.

    Places are URLs as `foretell stream` takes them: kafka://, nats://, amqp://, mqtt://, redis://,
    file:, or - for this end of a pipe. Brokers have no end: SIGTERM or SIGINT finishes what was
    taken, where this is called in the main thread. A second signal raises
    `asyncio.CancelledError`. Raises BadSettings, BadPackage, MissingExtra, StoreFailed.
    """
    choices = Choices(emit == "merged", key, when, format)
    places = Places(source, sink, dead_letters)
    return carried_out(model, places, choices, attempts, metrics_bind)[1]


def carried_out(
    model: str | Path, places: Places, choices: Choices, attempts: int, metrics_bind: str | None
) -> tuple[Loaded, Report]:
    """The model, and what became of the messages."""
    if choices.form != "json" and places.source.partition(":")[0] in ("-", "file"):
        raise BadSettings(f"--format {choices.form}: lines of files and pipes are JSON")
    from foretell.app.batching.jobs import package_of
    from foretell.engine.executors.choosing import ExecutorKind
    from foretell.engine.fleet import load

    package = package_of(model)
    loaded = load(package, kind=ExecutorKind.INLINE)
    apart = functools.partial(load, package, kind=ExecutorKind.PROCESS)
    scorer = Careful(Scorer(loaded, choices), lambda: apart().executor, attempts)

    async def opened() -> Report:
        async with _opened(places) as (messages, results, dead):
            with contextlib.closing(scorer):
                if metrics_bind is None:
                    return await _run(messages, scorer, results, dead)
                from foretell.app.streaming.watching import Watch

                watch = Watch(loaded)
                async with watch.told(metrics_bind, messages):
                    return await _run(messages, scorer, results, dead, watch.batch)

    return loaded, asyncio.run(opened())


@contextlib.asynccontextmanager
async def _opened(places: Places) -> AsyncIterator[tuple[Source, Sink, Sink]]:
    from foretell.transports.stream import brokers

    async with contextlib.AsyncExitStack() as open_ones:
        messages = brokers.source_of(places.source)
        open_ones.push_async_callback(messages.close)
        results = brokers.sink_of(places.sink, "--to")
        open_ones.push_async_callback(results.close)
        letters = brokers.sink_of(places.dead, "--dead-letters")
        open_ones.push_async_callback(letters.close)
        yield messages, results, letters


async def _run(
    source: Source,
    scorer: Careful,
    sink: Sink,
    dead: Sink,
    told: Callable[[Sequence[Message], Scored], None] | None = None,
) -> Report:
    """Run until the end or the first signal; a second one waits for nobody.

    Meanwhile all that was loaded is out of the garbage collector's way: messages made it look
    through libraries and models again and again, which took as long as scoring did.
    """
    from foretell.transports.stream.running import run

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    gc.collect()
    gc.freeze()
    running = asyncio.ensure_future(run(source, scorer, sink, dead, stop, told))

    def asked() -> None:
        if stop.is_set():
            running.cancel()
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked)
    try:
        return await running
    finally:
        gc.unfreeze()
