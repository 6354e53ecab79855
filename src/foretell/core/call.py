"""A call is one request's errand to the data plane: whom it asks, on what terms, what came back.

Two of these are made for every request, so they are msgspec's structs, which are made in C:
a frozen dataclass costs ten times as much to make, a named tuple three times.
"""

import enum
from typing import NamedTuple

import msgspec

from foretell.core.batch import Batch


class Target(NamedTuple):
    """Which model is asked: `model` None is the default one, `version` None the routed one."""

    model: str | None = None
    version: str | None = None


class CacheUse(enum.IntEnum):
    """What a request allows a result cache to do for it.

    USE it, REFRESH it (the model answers, which is kept), or NONE of that.
    """

    USE = 0
    REFRESH = 1
    NONE = 2


class Call(msgspec.Struct, frozen=True, gc=False):
    """The terms of a request, whichever door it came through: never headers.

    `deadline` is on the monotonic clock, in seconds; None waits as long as it takes.
    `traceparent` is the caller's, as W3C Trace Context has it. `cache` matters to models that
    have one.
    """

    request_id: str
    deadline: float | None = None
    traceparent: bytes | None = None
    cache: CacheUse = CacheUse.USE


_HEX = frozenset(b"0123456789abcdef")
_TRACE_ID_DIGITS = 32


def trace_id_of(traceparent: bytes | None) -> str | None:
    """The trace that a `traceparent` names: two digits of version, then the id, then others."""
    parts = traceparent.split(b"-") if traceparent else []
    if len(parts) < 4 or len(parts[0]) != 2:
        return None
    told = parts[1]
    if len(told) != _TRACE_ID_DIGITS or not _HEX.issuperset(told) or not told.strip(b"0"):
        return None
    return told.decode()


class CacheStatus(msgspec.Struct, frozen=True, gc=False):
    """Where a request's rows came from: the cache, runs for others, or a run of its own.

    `use` is what the request allowed; `bypassed`: the cache could not be asked, or there were
    too many rows for it.
    """

    hits: int
    joined: int
    ran: int
    use: CacheUse = CacheUse.USE
    bypassed: bool = False


class Answer(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The output batch, and which model and version gave it.

    `cache` is None where there is no result cache.
    """

    outputs: Batch
    model: str
    version: str
    cache: CacheStatus | None = None
