"""A breaker says whether a store that may fail is asked at all.

Rules:

1. After `FAILURES` failures in a row nobody is kept waiting any more: the store is left alone.
2. Meanwhile it is tried now and then, beside the requests, with pauses that grow. When that works,
   it is asked again; the next failure is enough then to leave it alone.
3. Each change of that is one line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

FAILURES = 3
_LEAST_S, _MOST_S = 0.2, 2.0
_log = logging.getLogger("foretell.engine")


class Breaker:
    """The breaker of the store called `name`; `attempt` tries it, and raises `errors`."""

    def __init__(
        self,
        name: str,
        attempt: Callable[[], Awaitable[object]],
        errors: tuple[type[BaseException], ...],
    ) -> None:
        self.is_open = False
        self._name = name
        self._attempt = attempt
        self._errors = errors
        self._failures = 0
        self._closed = False
        self._trying: asyncio.Task[None] | None = None

    def worked(self) -> None:
        """The store has answered."""
        if not self.is_open:
            self._failures = 0

    def failed(self, reason: str) -> None:
        """The store has not."""
        self._failures += 1
        if self._failures >= FAILURES and not self.is_open and not self._closed:
            self.is_open = True
            _log.warning("%s is left alone: %s", self._name, reason)
            self._trying = asyncio.get_running_loop().create_task(self._try())

    async def _try(self) -> None:
        pause = _LEAST_S
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            try:
                await self._attempt()
            except self._errors:
                pause = min(2 * pause, _MOST_S)
            else:
                break
        self._failures = FAILURES - 1
        self.is_open = False
        _log.warning("%s is asked again", self._name)

    def close(self) -> None:
        """Try no more."""
        self._closed = True
        if self._trying is not None:
            self._trying.cancel()
