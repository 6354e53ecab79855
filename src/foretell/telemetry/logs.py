"""Logs are written by structlog, a line a record: for people or, as JSON, for machines.

Rules:

1. Modules log with Python's `logging`; the fields of a record (its `extra`) are fields of the line.
2. What was sent by clients is not written: of the reason why input was refused only what is
   expected instead. A model's own exception is written with its own words.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from foretell.errors import InvalidInput

Format = Literal["auto", "json", "pretty"]

_BUT = ", but "


def is_pretty(form: Format, stream: TextIO = sys.stderr) -> bool:
    """Whether lines are for people: they are on a terminal, unless told otherwise."""
    return form == "pretty" or (form == "auto" and stream.isatty())


def configure(level: str, *, pretty: bool, values: bool, stream: TextIO = sys.stderr) -> None:
    """Let all that is logged go to `stream`, with what clients sent only when `values`."""
    before: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper("iso", utc=not pretty),
    ]
    before.append(_without_what_others_add)
    if not values:
        before.append(without_values)
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    ]
    if pretty:
        plain = structlog.dev.plain_traceback
        colors = stream.isatty()
        last.append(structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain))
    else:
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    to = logging.StreamHandler(stream)
    to.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=last))
    logging.basicConfig(level=level.upper(), handlers=[to], force=True)


def _without_what_others_add(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    event.pop("color_message", None)  # what uvicorn says, once more
    event.pop("_ray_timestamp_ns", None)  # Ray adds it to all records of a process it is used in
    return event


def without_values(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """The record, whose reason quotes nothing that was sent.

    What is refused is told as `'age' is "old", but must be a number`; the end of it is ours.
    """
    if event.get("code") == InvalidInput.code and "reason" in event:
        _, but, expected = str(event["reason"]).rpartition(_BUT)
        event["reason"] = expected if but else "the input is not what the signature asks for"
    return event
