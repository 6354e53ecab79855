"""A tiered store has the memory of this process in front of a store that others see, too.

What is found behind is kept in front, for no longer than it lives behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from foretell.engine.stores.memory import MemoryStore
from foretell.engine.stores.redis import RedisStore
from foretell.engine.stores.store import Counts, Found


class TieredStore:
    """`front`, and `behind` it what it has not."""

    answers_at_once = False

    def __init__(self, front: MemoryStore, behind: RedisStore) -> None:
        self._front = front
        self._behind = behind

    @property
    def counts(self) -> Counts:
        """What both have done."""
        front, behind = self._front.counts, self._behind.counts
        rejected = front.rejected + behind.rejected
        return Counts(front.entries, front.n_bytes, front.evicted, rejected, behind.unwritten)

    def near(self, key: bytes) -> bytes | None:
        """The value of `key` in memory."""
        return self._front.near(key) or None

    def find(self, keys: Sequence[bytes]) -> Found | asyncio.Future[Found]:
        """The values of `keys`; those that memory has not are asked for behind it."""
        found = self._front.find(keys)
        missing = [place for place, value in enumerate(found.values) if value is None]
        if not missing:
            return found
        told = self._behind.find([keys[place] for place in missing])
        if isinstance(told, Found):
            return self._joined(found, missing, keys, told)
        whole: asyncio.Future[Found] = told.get_loop().create_future()
        told.add_done_callback(partial(self._came, whole, found, missing, keys))
        return whole

    def _came(
        self,
        whole: asyncio.Future[Found],
        found: Found,
        missing: Sequence[int],
        keys: Sequence[bytes],
        told: asyncio.Future[Found],
    ) -> None:
        if not whole.done():
            whole.set_result(self._joined(found, missing, keys, told.result()))

    def _joined(
        self, found: Found, missing: Sequence[int], keys: Sequence[bytes], told: Found
    ) -> Found:
        values = list(found.values)
        for at, place in enumerate(missing):
            value = values[place] = told.values[at]
            if value is not None and told.left_s[at] > 0:
                self._front.put(keys[place], value, told.left_s[at])
        due = [*found.due, *(missing[at] for at in told.due)]
        return Found(values, due, asked=told.asked)

    def put(self, key: bytes, value: bytes) -> None:
        """Keep `value` in both."""
        self._front.put(key, value)
        self._behind.put(key, value)

    def drop(self, key: bytes) -> None:
        """Forget `key`: what it had is no value."""
        self._front.drop(key)

    def close(self) -> None:
        """Let go of connections."""
        self._behind.close()
