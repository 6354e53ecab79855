"""A memory store keeps answers in this process: those asked for last, up to a number of bytes.

Rules:

1. An entry counts with its key, its value and what Python needs beside them: `max_bytes` is what
   the entries take in all, as near as can be told.
2. Over it, those go first that were asked for the longest time ago. An entry larger than all of it
   is not kept.
3. An entry lives for `ttl_s`, counted from when it was written; asking does not prolong it. In the
   last tenth of that, one in ten that ask for it make it anew: nobody has to wait when it ends.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from foretell.engine.stores.store import NOWHERE, Counts, Found

ENTRY_BYTES = 320
"""What an entry takes besides the bytes of its value: key, pair, time, place (measured)."""

EARLY = 0.1
"""The share of a life in which an entry is made anew, and of those that ask for it then."""


class MemoryStore:
    """Answers by key, in `max_bytes`, each for `ttl_s` seconds (None: until there is no room)."""

    answers_at_once = True

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.max_bytes = max_bytes
        self.counts = Counts()
        self._ttl_s = float("inf") if ttl_s is None else ttl_s
        self._early_s = 0.0 if ttl_s is None else ttl_s * EARLY
        self._clock = clock
        self._draw = draw
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> tuple[bytes, float] | None:
        """The value of `key` and how long it still lives, if there is one that does."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        left = entry[1] - self._clock()
        if left <= 0:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry[0], left

    def near(self, key: bytes) -> bytes | None:
        """The value of `key`, unless it ends soon; NOWHERE when there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return NOWHERE
        if entry[1] - self._clock() <= self._early_s:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def find(self, keys: Sequence[bytes]) -> Found:
        """The values of `keys`, None where there is none."""
        values: list[bytes | None] = []
        due: list[int] = []
        for key in keys:
            got = self.get(key)
            if got is None:
                values.append(None)
                continue
            if got[1] < self._early_s and self._draw() < EARLY:
                due.append(len(values))
            values.append(got[0])
        return Found(values, due)

    def put(self, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        """Keep `value`, in place of what `key` had; no longer than `ttl_s`, if that is told."""
        entries, counts = self._entries, self.counts
        if key in entries:
            self._remove(key)
        size = len(value) + ENTRY_BYTES
        if size > self.max_bytes:
            return
        lives_s = self._ttl_s if ttl_s is None or ttl_s > self._ttl_s else ttl_s
        entries[key] = (value, self._clock() + lives_s)
        counts.entries += 1
        counts.n_bytes += size
        while counts.n_bytes > self.max_bytes:
            self._remove(next(iter(entries)))
            counts.evicted += 1

    def drop(self, key: bytes) -> None:
        """Forget `key`: what it had is no value."""
        self.counts.rejected += 1
        if key in self._entries:
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        self.counts.n_bytes -= len(self._entries.pop(key)[0]) + ENTRY_BYTES
        self.counts.entries -= 1

    def close(self) -> None:
        """Nothing is held elsewhere."""
