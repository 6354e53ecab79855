"""Calling is how a call is carried: attempts and pauses, until there is an answer or an error.

All of it is said by generators, which neither wait nor send: they yield a `Step`, and whoever
drives them does that and sends back what came of it. `driven` does so from a thread,
`driven_async` from an event loop, with an `exchange` that speaks REST or gRPC.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any, TypeVar

from foretell.client.balancing import Balancer, Turn, Upstream
from foretell.client.retrying import Budget, Retries
from foretell.errors import DeadlineExceeded, ForetellError

Clock = Callable[[], float]
_Result = TypeVar("_Result")

TELLING_SILENCE_S = 1.0
SHORT_SILENCE = 0.6
"""Of a failure, for a silence below that: the server may hang, or the deadline be too short."""


class Kind(StrEnum):
    """How an attempt ended."""

    ANSWERED = "answered"  # with a result, or with an error of the call's own
    SHED = "shed"  # by a server that has too much to do
    UNREADY = "unready"  # by a server that says it cannot serve now
    REFUSED = "refused"  # there was no connection, so nothing was sent
    BROKEN = "broken"  # the connection ended before the answer did
    SILENT = "silent"  # no answer came in time
    SPOILT = "spoilt"  # what came is no answer of ours


_DOES_ITS_WORK = frozenset({Kind.ANSWERED, Kind.SHED})
_SENT_AGAIN = frozenset({Kind.SHED, Kind.UNREADY, Kind.REFUSED, Kind.BROKEN})


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: a path below the base URL (or a gRPC method's), and a body."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a server that answered."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: a reply, or the error that says why there is none."""

    kind: Kind
    reply: Reply = Reply(b"")
    error: ForetellError | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A step: send `request` to `url`, and be back within `timeout_s`."""

    url: str
    request: Request
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """A step: do nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Joining:
    """A step: until another call has fetched what this one needs, too, or the time is over."""

    fetched: Future[Any]
    timeout_s: float | None


Step = Attempt | Pause | Joining
Steps = Generator[Step, Outcome | None, _Result]


class Calls:
    """Carries calls: the one place where servers, retries and deadlines meet."""

    def __init__(
        self, balancer: Balancer, retries: Retries, *, clock: Clock, random: Callable[[], float]
    ) -> None:
        self.clock = clock
        self.balancer = balancer
        self._retries = retries
        self._budget = Budget(retries)
        self._random = random

    def carry(
        self, request: Request, *, deadline: float | None = None, key: str | None = None
    ) -> Steps[Reply]:
        """The reply to `request`, sent as often as need be. Raises ForetellError."""
        rests: dict[Upstream, float] = {}
        broken = 0
        self._budget.called()
        for sent in count(1):
            turn = self.balancer.choose(self.clock(), key, rests)
            outcome = yield from self._attempt(turn, request, deadline)
            error = outcome.error
            if error is None:
                break
            broken += outcome.kind is Kind.BROKEN
            rests[turn.upstream] = self.clock() + float(getattr(error, "retry_after_s", 0.0))
            pause_s = self._pause_s(sent, rests)
            if (
                outcome.kind not in _SENT_AGAIN
                or broken > 1
                or sent >= self._retries.attempts
                or pause_s > self._retries.most_wait_s
                or (deadline is not None and self.clock() + pause_s >= deadline)
                or (outcome.kind is not Kind.REFUSED and not self._budget.take())
            ):
                raise error
            yield Pause(pause_s)
        return outcome.reply

    def left(self, deadline: float | None) -> float | None:
        """The seconds until `deadline`. Raises DeadlineExceeded when there are none."""
        if deadline is None:
            return None
        left_s = deadline - self.clock()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed before an answer came; give more timeout_s")
        return left_s

    def _attempt(
        self, turn: Turn, request: Request, deadline: float | None
    ) -> Generator[Step, Outcome | None, Outcome]:
        began, good, weight = self.clock(), None, 1.0
        try:
            timeout_s = self.left(deadline)
            outcome = yield Attempt(turn.upstream.url, request, timeout_s)
            assert outcome is not None  # noqa: S101 - whoever drives this answers attempts
            good = outcome.kind in _DOES_ITS_WORK
            if outcome.kind is Kind.SILENT and self.clock() - began < TELLING_SILENCE_S:
                weight = SHORT_SILENCE
            return outcome
        finally:
            self.balancer.settle(turn, good, self.clock(), weight=weight)

    def _pause_s(self, sent: int, rests: Mapping[Upstream, float]) -> float:
        now = self.clock()
        until = self.balancer.ready_at(now, rests)
        return max(0.0, until - now) + self._retries.backoff_s(sent, self._random)


def driven(steps: Steps[_Result], exchange: Callable[[Attempt], Outcome]) -> _Result:
    """What `steps` come to, in this thread."""
    came: Outcome | None = None
    with closing(steps):
        while True:
            try:
                step = steps.send(came)
            except StopIteration as ended:
                result: _Result = ended.value
                return result
            came = None
            match step:
                case Attempt():
                    came = exchange(step)
                case Pause():
                    time.sleep(step.seconds)
                case Joining():
                    wait_for([step.fetched], step.timeout_s)


async def driven_async(
    steps: Steps[_Result], exchange: Callable[[Attempt], Awaitable[Outcome]]
) -> _Result:
    """The same, on the running event loop."""
    came: Outcome | None = None
    with closing(steps):
        while True:
            try:
                step = steps.send(came)
            except StopIteration as ended:
                result: _Result = ended.value
                return result
            came = None
            match step:
                case Attempt():
                    came = await exchange(step)
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Joining():
                    waiting = asyncio.wrap_future(step.fetched)
                    await asyncio.wait([waiting], timeout=step.timeout_s)
