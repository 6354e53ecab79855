"""States are where histories are kept: bytes by key, of one stream.

Rules:

1. `load` gives what was saved last, or None: never saved, or forgotten.
2. `save` returns when all of it is kept, or raises, and then none of it is.
3. What nobody saved for `ttl_s` is forgotten, and of more than `max_keys` the oldest.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol


class States(Protocol):
    """Where the histories of one stream's keys are."""

    async def load(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """One for each of `keys`. Raises StoreFailed."""
        ...

    async def save(self, told: Mapping[bytes, bytes]) -> None:
        """Keep these. Raises StoreFailed."""
        ...

    async def close(self) -> None:
        """Nothing is loaded or saved any more."""
        ...


class Kept(NamedTuple):
    """Whose histories they are, and how many and how long they are kept."""

    name: str
    max_keys: int
    ttl_s: float


class MemoryStates:
    """Histories that are gone with the process."""

    def __init__(self, kept: Kept, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept, self._clock = kept, clock
        self._told: dict[bytes, tuple[float, bytes]] = {}  # those that were saved last are last

    async def load(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        least = self._clock() - self._kept.ttl_s
        found = (self._told.get(key) for key in keys)
        return [None if one is None or one[0] < least else one[1] for one in found]

    async def save(self, told: Mapping[bytes, bytes]) -> None:
        now = self._clock()
        for key, history in told.items():
            self._told.pop(key, None)
            self._told[key] = (now, history)
        least = now - self._kept.ttl_s
        while self._told:
            oldest = next(iter(self._told))
            if len(self._told) <= self._kept.max_keys and self._told[oldest][0] >= least:
                break
            del self._told[oldest]

    async def close(self) -> None:
        self._told.clear()
