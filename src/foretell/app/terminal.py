"""The terminal is where a command reports, and its failures become sentences and exit codes."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from foretell.app.reports import printable
from foretell.errors import BadSettings, ForetellError

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def print_json(told: object) -> None:
    """Print JSON-ready data."""
    text = json.dumps(told, indent=2, ensure_ascii=False)
    # What has no UTF-8, as in a file's name, goes out as JSON's own escape.
    typer.echo(text.encode(errors="backslashreplace").decode())


def guarded(run: Callable[[], Any], arguments: list[str]) -> int:
    """Run a command; every failure that is not a bug becomes a sentence and an exit code."""
    try:
        return _told(run, as_json="--json" in arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()  # whoever read it has seen enough
        return 1
    except OSError as error:
        _drop_output()
        what = "the output cannot be written" if error.filename is None else str(error.filename)
        return say(f"{what}: {error.strerror or error}", 1)


def _told(run: Callable[[], Any], *, as_json: bool) -> int:
    try:
        run()
    except ForetellError as error:
        message = "; ".join((error.message, *getattr(error, "__notes__", ())))
        if as_json:
            where = {"field": error.field, "row": error.row}
            told = {name: value for name, value in where.items() if value is not None}
            print_json({"error": message, "code": error.code, **told})
        return say(message, 2 if isinstance(error, BadSettings) else 1)
    except UnicodeEncodeError as error:
        wrong = error.object[error.start : error.end]
        if not any("\ud800" <= letter <= "\udfff" for letter in wrong):
            return say(f"the output cannot be written in {error.encoding}: it has {wrong!r}", 1)
        return say(f"{error.object!r} is no text in UTF-8; write it in UTF-8", 2)
    return 0


def say(message: str, code: int) -> int:
    """Print what went wrong, as far as anybody reads it, and give back the exit code."""
    with contextlib.suppress(OSError):
        stderr.print("[bold red]error:[/] ", end="")
        stderr.print(printable(message), markup=False)
    return code


def _drop_output() -> None:
    """Let nothing more go out: Python must not complain again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
