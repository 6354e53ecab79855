"""Careful scoring: a message that may have killed a process is scored in another one.

Whoever was killed leaves messages that are delivered again, and one of them may be why. They are
scored in a child process, together; when that dies, each alone, with pauses, up to the number of
attempts. A message whose every attempt ended its process is poison.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from foretell.core.batch import Batch
from foretell.engine.executors import Executor, Outcome, ProcessDied
from foretell.transports.stream.message import Message
from foretell.transports.stream.scoring import Scored, Scorer
from foretell.transports.stream.windows.past import Past

_log = logging.getLogger("foretell.stream")
_LEAST_S, _MOST_S = 0.1, 5.0
_KEPT_S = 30.0


class Careful:
    """Scores messages for the first time here, and later ones in a process that `start` makes."""

    def __init__(
        self,
        scorer: Scorer,
        start: Callable[[], Executor],
        attempts: int,
        past: Past | None = None,
    ) -> None:
        self._scorer, self._start, self._attempts, self._past = scorer, start, attempts, past
        self._process: Executor | None = None
        self._used_at = 0.0

    async def score(self, messages: Sequence[Message]) -> Scored:
        """As `Scorer.score`, but that no message can end this process twice.

        Raises StoreFailed when what came before cannot be recalled.
        """
        here, rows = self._scorer.outcomes, self._scorer.decoded(messages)
        if self._past is not None:
            await self._past.recall(rows)
        read = self._scorer.read(rows, self._past)
        if all(message.deliveries < 2 for message in messages):
            if self._process is not None and time.monotonic() > self._used_at + _KEPT_S:
                self.close()
            return self._scorer.records(read, [(one, 1) for one in here(read.batches)])
        told: list[tuple[Outcome, int] | None] = [None] * len(read.batches)
        before = [message.deliveries > 1 for message in read.well]
        suspects = [place for place, one in enumerate(before) if one]
        others = [place for place, one in enumerate(before) if not one]
        apart = await self._apart([read.batches[place] for place in suspects])
        own = here([read.batches[place] for place in others])
        for place, one in zip(suspects, apart, strict=True):
            told[place] = one
        for place, outcome in zip(others, own, strict=True):
            told[place] = (outcome, 1)
        return self._scorer.records(read, [one for one in told if one is not None])

    async def keep(self) -> None:
        """Results are out: what has happened is kept for the next ones. Raises StoreFailed."""
        if self._past is not None:
            await self._past.keep()

    async def _apart(self, batches: Sequence[Batch]) -> list[tuple[Outcome, int]]:
        if not batches:
            return []
        outcomes = await self._run(batches)
        return [
            await self._alone(batch) if isinstance(outcome, ProcessDied) else (outcome, 1)
            for batch, outcome in zip(batches, outcomes, strict=True)
        ]

    async def _alone(self, batch: Batch) -> tuple[Outcome, int]:
        for attempt in range(1, self._attempts + 1):
            (outcome,) = await self._run([batch])
            if not isinstance(outcome, ProcessDied):
                return outcome, attempt
            _log.warning("a message ended the process it was scored in, attempt %d", attempt)
            if attempt < self._attempts:
                await asyncio.sleep(min(_LEAST_S * 2**attempt, _MOST_S))
        return outcome, self._attempts

    async def _run(self, batches: Sequence[Batch]) -> list[Outcome]:
        if self._process is None:
            self._process = await asyncio.to_thread(self._start)
        came = self._process.run(batches)
        outcomes = came if isinstance(came, list) else await came
        self._used_at = time.monotonic()
        return outcomes

    def close(self) -> None:
        """The other process ends."""
        if self._process is not None:
            self._process.close()
            self._process = None
