"""A load test is one run for each protocol that is compared, with the same rows, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from foretell.errors import NoAnswer
from foretell.loadtest.histogram import Histogram
from foretell.loadtest.payloads import Asked, Payload, Protocol, payload_of
from foretell.loadtest.recording import Second
from foretell.loadtest.results import Result
from foretell.loadtest.running import Plan, Run
from foretell.loadtest.sending.links import Place

_TRIAL = Plan(rate=None, concurrency=1, duration_s=0.05, warmup_s=0.0, timeout_s=30.0)
"""Long enough for one answer: it is waited for."""


def _unwatched(_second: Second) -> None:
    """Nobody looks at a trial."""


class LoadTest:
    """Everything that is sent, made beforehand. Raises InvalidInput, BadSettings, MissingExtra."""

    def __init__(
        self, place: Place, asked: Asked, protocols: Sequence[Protocol], plan: Plan
    ) -> None:
        Histogram()  # to tell of what is missing now
        self.place, self.plan = place, plan
        self.payloads = [payload_of(protocol, asked) for protocol in protocols]

    async def try_out(self) -> None:
        """Ask once in each protocol, and read the answer. Raises NoAnswer."""
        for payload in self.payloads:
            outcome = await Run(payload, self.place, _TRIAL, _unwatched).carry_out()
            recording = outcome.recording
            if recording.errors:
                raise NoAnswer(f"{payload.what} answered: {next(iter(recording.errors))}")
            if outcome.unread is not None or not outcome.checked:
                raise NoAnswer(f"{payload.what}: {outcome.unread or 'no answer came'}")

    async def carry_out(self, watch: Callable[[Payload, Second], None]) -> list[Result]:
        """All runs, one after another. Raises NoAnswer."""
        results = []
        for payload in self.payloads:
            run = Run(payload, self.place, self.plan, partial(watch, payload))
            results.append(Result(payload, self.plan, await run.carry_out()))
        return results
