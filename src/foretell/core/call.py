"""A call is one request's errand to the data plane: whom it asks, on what terms, what came back.

Two of these are made for every request, so they are msgspec's structs, which are made in C:
a frozen dataclass costs ten times as much to make, a named tuple three times.
"""

from typing import NamedTuple

import msgspec

from foretell.core.batch import Batch


class Target(NamedTuple):
    """Which model is asked: `model` None is the default one, `version` None the routed one."""

    model: str | None = None
    version: str | None = None


class Call(msgspec.Struct, frozen=True, gc=False):
    """The terms of a request, whichever door it came through: never headers.

    `deadline` is on the monotonic clock, in seconds; None waits as long as it takes.
    """

    request_id: str
    deadline: float | None = None


class Answer(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The output batch, and which model and version gave it."""

    outputs: Batch
    model: str
    version: str
