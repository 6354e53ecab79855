"""A store keeps answers by key: what a cached batcher asks of one, and what can be chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from foretell.engine.hooks import CacheHeld


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What one version may keep: bytes in each process, and seconds (None: without an end).

    Requests of more than `max_rows` rows go past it. `store` is memory, redis or tiered, which is
    both; `url` is Redis's, which is waited for `timeout_s` at most.
    """

    max_bytes: int = 64 * 2**20
    ttl_s: float | None = None
    max_rows: int = 1024
    store: str = "memory"
    url: str | None = None
    timeout_s: float = 0.005


class Found(msgspec.Struct, frozen=True, eq=False):
    """What a store has of some keys: a value or None for each.

    `due`: the places of those that end soon, and are to be made anew by whoever asked. `left_s`:
    for how long each lives, where that is known. `asked` is False when there was no answer.
    """

    values: Sequence[bytes | None]
    due: Sequence[int] = ()
    left_s: Sequence[float] = ()
    asked: bool = True


def nothing(keys: Sequence[bytes], *, asked: bool = True) -> Found:
    """That there is none of these keys, or was no answer."""
    return Found([None] * len(keys), asked=asked)


@dataclass(slots=True)
class Counts:
    """What a store has done since it was made, and what it has in memory now.

    `rejected` values were none of those written there; `unwritten` ones could not be kept.
    """

    entries: int = 0
    n_bytes: int = 0
    evicted: int = 0
    rejected: int = 0
    unwritten: int = 0

    def since(self, before: Counts) -> CacheHeld:
        """What there is, and what has happened since it was as `before`."""
        return CacheHeld(
            self.entries,
            self.n_bytes,
            self.evicted - before.evicted,
            self.rejected - before.rejected,
            self.unwritten - before.unwritten,
        )


NOWHERE = b""
"""In place of a value: it is certain that there is none."""


class Store(Protocol):
    """Where answers are kept. Nothing here raises: whatever fails, there is no value."""

    @property
    def counts(self) -> Counts:
        """What it has done so far."""
        ...

    @property
    def answers_at_once(self) -> bool:
        """Whether `find` never gives a future."""
        ...

    def near(self, key: bytes) -> bytes | None:
        """The value of `key` where it can be had at once, and need not be made anew.

        NOWHERE when there is none; None when only `find` knows.
        """
        ...

    def find(self, keys: Sequence[bytes]) -> Found | asyncio.Future[Found]:
        """The values of `keys`."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Keep `value`, in place of what `key` had."""
        ...

    def drop(self, key: bytes) -> None:
        """Forget `key`: what it had is no value."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
