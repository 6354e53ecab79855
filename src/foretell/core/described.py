"""Descriptions are JSON data that somebody may have altered: read strictly, or refused in words.

Each function takes a value and what it is called, and returns the value when it has the type that
its name says: `null` is none of them, and a boolean is no number. Raises BadPackage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from foretell.errors import BadPackage


def is_printable(text: str) -> bool:
    """Whether `text` is free of control characters and of what UTF-8 cannot hold."""
    return not any(
        sign < " " or "\x7f" <= sign <= "\x9f" or "\ud800" <= sign <= "\udfff" for sign in text
    )


def as_object(
    value: object, what: str, needed: Sequence[str] = (), others: Sequence[str] | None = None
) -> dict[str, Any]:
    """An object that has the keys `needed` and, unless None, none but those and `others`."""
    if not isinstance(value, dict):
        raise _not(value, what, "an object")
    for key in needed:
        if key not in value:
            raise BadPackage(f"{what} is unreadable: it lacks {key!r}")
    if others is not None:
        unknown = sorted(set(value) - {*needed, *others})
        if unknown:
            raise BadPackage(f"{what} has an unknown key {unknown[0]!r}")
    return value


def as_list(value: object, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list | tuple):
        raise _not(value, what, "a list")
    return list(value)


def as_text(value: object, what: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise _not(value, what, "a string")
    return value


def as_name(value: object, what: str) -> str:
    """A text without control characters."""
    if not is_printable(as_text(value, what)):
        raise BadPackage(f"{what} is {value!r}, but must be free of control characters")
    return str(value)


def as_bool(value: object, what: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _not(value, what, "true or false")
    return value


def as_whole(value: object, what: str) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise _not(value, what, "a whole number")
    return value


def as_number(value: object, what: str) -> int | float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _not(value, what, "a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise _not(value, what, "a finite number")
    return value


def as_scalar(value: object, what: str) -> bool | int | float | str:
    """A text, a number or a boolean."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return as_number(value, what)
    raise _not(value, what, "a string, a number or a boolean")


def as_time(value: object, what: str) -> str:
    """A time as RFC 3339 writes it in UTC."""
    text = as_name(value, what)
    digits = "".join("0" if sign in "123456789" else sign for sign in text)
    whole, _, rest = digits.partition(".")
    well_formed = text.isascii() and (
        digits == "0000-00-00T00:00:00Z"
        or (whole == "0000-00-00T00:00:00" and len(rest) > 1 and not rest[:-1].strip("0"))
    )
    if not well_formed or not text.endswith("Z") or not _is_time(text):
        raise BadPackage(f"{what} is {text!r}, but must be a time in UTC like 2026-01-31T12:00:00Z")
    return text


def _is_time(text: str) -> bool:
    month, day, hour, minute, second = (int(text[at : at + 2]) for at in (5, 8, 11, 14, 17))
    in_day = hour <= 23 and minute <= 59 and second <= 60
    return 1 <= month <= 12 and 1 <= day <= 31 and in_day


def _not(value: object, what: str, wanted: str) -> BadPackage:
    match value:
        case None:
            told = "null"
        case bool():
            told = "true" if value else "false"
        case dict():
            told = "an object"
        case list() | tuple():
            told = "a list"
        case _:
            told = repr(value)
    if len(told) > 60:
        told = f"{told[:57]}..."
    return BadPackage(f"{what} is unreadable: it is {told}, but must be {wanted}")
