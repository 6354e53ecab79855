"""A memory store keeps answers in this process: those asked for last, up to a number of bytes.

Rules:

1. An entry counts with its key, its value and what Python needs beside them: `max_bytes` is what
   the entries take in all, as near as can be told.
2. Over it, those go first that were asked for the longest time ago. An entry larger than all of it
   is not kept.
3. An entry lives for `ttl_s`, counted from when it was written; asking does not prolong it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

ENTRY_BYTES = 320
"""What an entry takes besides the bytes of its value: key, pair, time, place (measured)."""


class MemoryStore:
    """Answers by key, in `max_bytes`, each for `ttl_s` seconds (None: until there is no room)."""

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_bytes = max_bytes
        self.evicted = 0
        self.held_bytes = 0
        self._ttl_s = float("inf") if ttl_s is None else ttl_s
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, if there is one that still lives."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def find(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, None where there is none."""
        return [self.get(key) for key in keys]

    def put(self, key: bytes, value: bytes) -> None:
        """Keep `value`, in place of what `key` had."""
        entries = self._entries
        old = entries.pop(key, None)
        if old is not None:
            self.held_bytes -= len(old[0]) + ENTRY_BYTES
        size = len(value) + ENTRY_BYTES
        if size > self.max_bytes:
            return
        entries[key] = (value, self._clock() + self._ttl_s)
        self.held_bytes += size
        while self.held_bytes > self.max_bytes:
            _, (gone, _) = entries.popitem(last=False)
            self.held_bytes -= len(gone) + ENTRY_BYTES
            self.evicted += 1

    def drop(self, key: bytes) -> None:
        """Forget `key`, if it is known."""
        if key in self._entries:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        self.held_bytes -= len(self._entries.pop(key)[0]) + ENTRY_BYTES
