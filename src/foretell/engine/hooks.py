"""Hooks are what telemetry may listen to: what happened, in frozen records, told once.

Rules:

1. The engine and the doors tell a `Listener` and know nothing else of it. Without one, nothing
   is put together for it.
2. What happens to many requests together is told together: a batch is two records, whatever its
   requests are.
3. Whoever listens is told on the event loop, before the caller is: it raises nothing and is quick.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec


class Dropped(enum.IntEnum):
    """Why a call came to no answer of its model."""

    OVERLOADED = 0
    DEADLINE_EXCEEDED = 1
    CANCELLED = 2


class BatchBegan(msgspec.Struct, frozen=True, gc=False):
    """A batch of `n_rows` leaves the queue.

    `waited_s` is for how long each request waited whose first rows are in it.
    """

    n_rows: int
    waited_s: list[float]


class BatchEnded(msgspec.Struct, frozen=True, gc=False):
    """A batch of `n_rows` came back.

    The times are from submission to answer, of each request that is answered with it: those the
    model answered, and those it failed.
    """

    n_rows: int
    answered_s: list[float]
    failed_s: list[float]


class CacheUsed(msgspec.Struct, frozen=True, gc=False):
    """What a result cache did for one call.

    Of its rows so many were there, `joined` equal ones that ran, or ran for it; or they were all
    `bypassed`: they went past it. `saved_s` is how long such a call takes without it, when no
    row ran. `answered_s` and `failed_s` are as those of BatchEnded, which has none then.
    """

    hits: int
    joined: int
    misses: int
    bypassed: int
    saved_s: float
    answered_s: Sequence[float]
    failed_s: Sequence[float]


class CacheHeld(msgspec.Struct, frozen=True, gc=False):
    """What a result cache has in this process now, and what it did since it last told.

    So many entries made room for others, values were none that it wrote, or could not be written.
    """

    entries: int
    n_bytes: int
    evicted: int
    rejected: int
    unwritten: int


@dataclass(frozen=True, slots=True)
class VersionLoaded:
    """A version was loaded and warmed in `seconds`."""

    model: str
    version: str
    seconds: float


class VersionListener(Protocol):
    """Who is told what one version does in this process."""

    def began(self, event: BatchBegan) -> None:
        """A batch begins to run."""
        ...

    def ended(self, event: BatchEnded) -> None:
        """A batch has run; what it answers is about to go out."""
        ...

    def dropped(self, why: Dropped) -> None:
        """A call ended without the model's answer."""
        ...

    def waiting(self, n_rows: int) -> None:
        """So many rows wait in the queue now."""
        ...

    def cache_used(self, event: CacheUsed) -> None:
        """A call was answered by way of the result cache."""
        ...

    def cache_held(self, event: CacheHeld) -> None:
        """What the result cache has, has changed."""
        ...


Replied = Callable[[int], None]
"""Told the code of each reply of one door: HTTP's or gRPC's status."""


class Listener(Protocol):
    """Who is told what a server's process does."""

    def loaded(self, event: VersionLoaded) -> None:
        """A version is there."""
        ...

    def version(self, model: str, version: str) -> VersionListener:
        """Who listens to a version that was loaded."""
        ...

    def door(self, name: str) -> Replied:
        """Who listens to the replies of a door: `rest` or `grpc`."""
        ...

    def closed(self) -> None:
        """The process has answered its last request."""
        ...
