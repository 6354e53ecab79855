"""Streams as they are carried out: the model loaded, the places opened, signals heard."""

import asyncio
import contextlib
import functools
import gc
import hashlib
import json
import logging
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from foretell.app.streaming.showing import Line
from foretell.core.manifest import Manifest
from foretell.engine.fleet import Loaded
from foretell.errors import BadSettings
from foretell.transports.stream.careful import Careful
from foretell.transports.stream.message import Sink, Source
from foretell.transports.stream.running import Listener, Report
from foretell.transports.stream.scoring import Choices, Scorer
from foretell.transports.stream.windows.opening import states_of
from foretell.transports.stream.windows.past import Past
from foretell.transports.stream.windows.states import Kept

_log = logging.getLogger("foretell.stream")


class Places(NamedTuple):
    """Where messages come from, where results and dead letters go, and where the past is kept."""

    source: str
    sink: str
    dead: str
    state: str | None = None


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
    state: str | None = None,
    metrics_bind: str | None = None,
) -> Report:
    """Score the messages of `source`, publish results to `sink`, and report when it has ended.

    Places are URLs as `foretell stream` takes them: kafka://, nats://, amqp://, mqtt://, redis://,
    file:, or - for this end of a pipe. `state` is where windows are kept: file:PATH, redis://, or
    None for memory. Brokers have no end: SIGTERM or SIGINT finishes what was
    taken, where this is called in the main thread. A second signal raises
    `asyncio.CancelledError`. Raises BadSettings, BadPackage, MissingExtra, StoreFailed.
    """
    choices = Choices(emit == "merged", key, when, format)
    places = Places(source, sink, dead_letters, state)
    return carried_out(model, places, choices, attempts, metrics_bind)[1]


def carried_out(
    model: str | Path,
    places: Places,
    choices: Choices,
    attempts: int,
    metrics_bind: str | None,
    line: Line | None = None,
) -> tuple[Loaded, Report]:
    """The model, and what became of the messages; `line` shows them meanwhile."""
    if choices.form != "json" and places.source.partition(":")[0] in ("-", "file"):
        raise BadSettings(f"--format {choices.form}: lines of files and pipes are JSON")
    from foretell.app.batching.jobs import package_of
    from foretell.engine.executors.choosing import ExecutorKind
    from foretell.engine.fleet import load

    package = package_of(model)
    loaded = load(package, kind=ExecutorKind.INLINE)
    apart = functools.partial(load, package, kind=ExecutorKind.PROCESS)
    scored_here = Scorer(loaded, choices)

    async def opened() -> Report:
        async with (
            _past(loaded.manifest, places) as past,
            _opened(places) as (messages, results, letters),
        ):
            scorer = Careful(scored_here, lambda: apart().executor, attempts, past)
            listeners: list[Listener] = []
            dead = letters
            async with contextlib.AsyncExitStack() as meanwhile:
                meanwhile.enter_context(contextlib.closing(scorer))
                if metrics_bind is not None:
                    from foretell.app.streaming.watching import Watch

                    watch = Watch(loaded)
                    await meanwhile.enter_async_context(watch.told(metrics_bind, messages))
                    listeners.append(watch.batch)
                if line is not None:
                    await meanwhile.enter_async_context(line.shown(messages))
                    listeners.append(line.batch)
                    dead = line.aside(letters) if places.dead == "stderr" else letters
                return await _run(messages, scorer, results, dead, listeners)

    return loaded, asyncio.run(opened())


@contextlib.asynccontextmanager
async def _past(manifest: Manifest, places: Places) -> AsyncIterator[Past | None]:
    """What the stream remembers, where its model has windows. Raises BadSettings, StoreFailed."""
    windows, from_lines = manifest.windows, places.source.partition(":")[0] in ("-", "file")
    if windows is None or (places.state is not None and from_lines):
        if places.state is None:
            yield None
            return
        told = "a file begins anew each time" if windows else f"{manifest.name} has no windows"
        raise BadSettings(f"--state {places.state}: there is nothing to keep, since {told}")
    if places.state is None and not from_lines:
        _log.warning("windows are in memory alone; --state keeps them when this process ends")
    declared = json.dumps(windows.describe(), sort_keys=True).encode()
    stream = urlsplit(places.source).path.strip("/")
    name = f"{manifest.name}:{hashlib.sha256(declared).hexdigest()[:8]}:{stream}"
    past = Past(windows, states_of(places.state, Kept(name, windows.max_keys, windows.ttl_s)))
    try:
        yield past
    finally:
        await past.close()


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
    listeners: Sequence[Listener],
) -> Report:
    """Run until the end or the first signal; a second one waits for nobody.

    Meanwhile all that was loaded is out of the garbage collector's way: messages made it look
    through libraries and models again and again, which took as long as scoring did.
    """
    from foretell.transports.stream.running import run

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    gc.collect()
    gc.freeze()
    running = asyncio.ensure_future(run(source, scorer, sink, dead, stop, listeners))

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
