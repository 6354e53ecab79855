"""The command `foretell stream`, with its flags."""

import asyncio
import contextlib
import functools
import json
import signal
from collections.abc import AsyncIterator
from typing import Annotated, Literal, NamedTuple

import typer

from foretell.app.terminal import AsJson, Quiet, say, stderr
from foretell.engine.fleet import Loaded
from foretell.transports.stream.careful import Careful
from foretell.transports.stream.message import Sink, Source
from foretell.transports.stream.running import Report
from foretell.transports.stream.scoring import Choices, Scorer

_KINDS = "kafka://HOST:PORT/TOPIC, redis://HOST:PORT/STREAM"
DEAD_LETTERS = 3
"""The exit code of a stream that is done, but for messages that became dead letters."""


def stream(  # noqa: PLR0913, PLR0917 - one parameter for each flag
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A package, a model file, or a repository of one model."
        ),
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="URL",
            help=f"Where messages are: file:PATH, {_KINDS}, or - .",
        ),
    ] = "-",
    sink: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            help=f"Where results go: file:PATH, {_KINDS}, or - .",
        ),
    ] = "-",
    dead_letters: Annotated[
        str,
        typer.Option(metavar="URL", help="Where messages go that cannot be scored: as --to."),
    ] = "stderr",
    emit: Annotated[
        Literal["prediction", "merged"],
        typer.Option(help="A result has the prediction alone, or the message's fields, too."),
    ] = "prediction",
    key: Annotated[
        str | None, typer.Option(metavar="FIELD", help="A field that goes along with a result.")
    ] = None,
    when: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help='Which results go out, as in "prediction == 1".'),
    ] = None,
    attempts: Annotated[
        int,
        typer.Option(min=1, help="How often a message may end a process before it is poison."),
    ] = 3,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score messages as they arrive: a line of JSON in, a line of JSON out.

    What has arrived is scored together; a single message does not wait. SIGTERM finishes what was
    taken. Exit codes: 0 done, 1 failed, 2 it cannot be done so, 3 done but for dead letters.
    """
    places = _Places(source, sink, dead_letters)
    choices = Choices(emit == "merged", key, when)
    loaded, report = _carried_out(model, places, choices, attempts)
    if as_json:
        typer.echo(json.dumps(report.describe()), err=sink == "-")
    elif not quiet:
        stderr.print(_spoken(report, loaded))
    if report.dead_lettered:
        raise typer.Exit(DEAD_LETTERS)


class _Places(NamedTuple):
    """Where messages come from, and where results and dead letters go."""

    source: str
    sink: str
    dead: str


def _carried_out(
    model: str, places: _Places, choices: Choices, attempts: int
) -> tuple[Loaded, Report]:
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
                return await _run(messages, scorer, results, dead)

    return loaded, asyncio.run(opened())


@contextlib.asynccontextmanager
async def _opened(places: _Places) -> AsyncIterator[tuple[Source, Sink, Sink]]:
    from foretell.transports.stream import brokers

    async with contextlib.AsyncExitStack() as open_ones:
        messages = brokers.source_of(places.source)
        open_ones.push_async_callback(messages.close)
        results = brokers.sink_of(places.sink, "--to")
        open_ones.push_async_callback(results.close)
        letters = brokers.sink_of(places.dead, "--dead-letters")
        open_ones.push_async_callback(letters.close)
        yield messages, results, letters


async def _run(source: Source, scorer: Careful, sink: Sink, dead: Sink) -> Report:
    """Run until the end or the first signal; a second one waits for nobody."""
    from foretell.transports.stream.running import run

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    running = asyncio.ensure_future(run(source, scorer, sink, dead, stop))

    def asked() -> None:
        if stop.is_set():
            running.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    try:
        return await running
    except asyncio.CancelledError:
        say("stopped while results were on their way; a file or a broker gives them again", 1)
        raise typer.Exit(130) from None


def _spoken(report: Report, loaded: Loaded) -> str:
    return (
        f"{loaded.name} {loaded.version}: {report.consumed:,} messages in {report.batches:,} "
        f"batches, {report.published:,} published, {report.left_out:,} left out, "
        f"{report.dead_lettered:,} dead letters"
    )
