"""The command `foretell stream`, with its flags."""

import asyncio
import json
from typing import Annotated, Literal

import typer

from foretell.app.streaming.showing import Line
from foretell.app.streaming.streams import Places, carried_out
from foretell.app.terminal import AsJson, Quiet, say, stderr, stdout
from foretell.engine.fleet import Loaded
from foretell.transports.stream.running import Report
from foretell.transports.stream.scoring import Choices

_KINDS = "kafka://…, nats://…, amqp://…, mqtt://…, redis://HOST:PORT/NAME"
DEAD_LETTERS = 3
"""The exit code of a stream that is done, but for messages that became dead letters."""


_Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A package, a model file, or a repository of one model."),
]
_From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="URL",
        envvar="FORETELL_STREAM_FROM",
        help=f"Where messages are: file:PATH, {_KINDS}, or - .",
    ),
]
_To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="URL",
        envvar="FORETELL_STREAM_TO",
        help=f"Where results go: file:PATH, {_KINDS}, or - .",
    ),
]
_DeadLetters = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="FORETELL_STREAM_DEAD_LETTERS",
        help="Where messages go that cannot be scored: as --to.",
    ),
]
_Emit = Annotated[
    Literal["prediction", "merged"],
    typer.Option(help="A result has the prediction alone, or the message's fields, too."),
]
_Key = Annotated[
    str | None, typer.Option(metavar="FIELD", help="A field that goes along with a result.")
]
_When = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help='Which results go out, as in "prediction == 1".'),
]
_Format = Annotated[
    Literal["json", "msgpack", "arrow"],
    typer.Option("--format", help="What a broker's messages are without a header content-type."),
]
_Attempts = Annotated[
    int, typer.Option(min=1, help="How often a message may end a process before it is poison.")
]
_State = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="FORETELL_STREAM_STATE",
        help="Where windows are kept: file:PATH, or redis://HOST:PORT/PREFIX for a group.",
    ),
]
_MetricsBind = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Where /metrics and /health are, as in 127.0.0.1:9090."),
]


def stream(  # noqa: PLR0913, PLR0917 - one parameter for each flag
    model: _Model,
    source: _From = "-",
    sink: _To = "-",
    dead_letters: _DeadLetters = "stderr",
    emit: _Emit = "prediction",
    key: _Key = None,
    when: _When = None,
    form: _Format = "json",
    attempts: _Attempts = 3,
    state: _State = None,
    metrics_bind: _MetricsBind = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score messages as they arrive: a line of JSON in, a line of JSON out.

    What has arrived is scored together; a single message does not wait. SIGTERM finishes what was
    taken. Exit codes: 0 done, 1 failed, 2 it cannot be done so, 3 done but for dead letters.
    """
    choices = Choices(emit == "merged", key, when, form)
    try:
        places = Places(source, sink, dead_letters, state)
        alone = not (as_json or quiet) and stderr.is_terminal
        line = Line(stderr) if alone and not (sink == "-" and stdout.is_terminal) else None
        loaded, report = carried_out(model, places, choices, attempts, metrics_bind, line)
    except asyncio.CancelledError:
        say("stopped while results were on their way; a file or a broker gives them again", 1)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(report.describe()), err=sink == "-")
    elif not quiet:
        stderr.print(_spoken(report, loaded))
    if report.dead_lettered:
        raise typer.Exit(DEAD_LETTERS)


def _spoken(report: Report, loaded: Loaded) -> str:
    return (
        f"{loaded.name} {loaded.version}: {report.consumed:,} messages in {report.batches:,} "
        f"batches, {report.published:,} published, {report.left_out:,} left out, "
        f"{report.dead_lettered:,} dead letters"
    )
