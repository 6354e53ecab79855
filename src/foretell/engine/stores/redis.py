"""A Redis store keeps answers where other workers and servers find them.

Rules:

1. Lookups of one turn of the event loop are one MGET. Few are out at a time; others gather
   meanwhile, and leave together.
2. Nobody waits longer than `timeout_s`: whoever has, is told that the store gave no answer.
3. What is to be kept is written in the background, so much of it at most; answers don't wait.
4. Whatever is no whole frame of the key that was asked for is no value, and is counted.
5. All keys of a version begin with a hash tag, so that a cluster has them in one place. The life
   of each is shortened by up to a tenth, lest those that were written together end together.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from foretell.engine.stores.breaker import Breaker
from foretell.engine.stores.framing import framed, unframed
from foretell.engine.stores.memory import EARLY
from foretell.engine.stores.store import Counts, Found, nothing
from foretell.errors import BadSettings, MissingExtra

_log = logging.getLogger("foretell.engine")

_MOST_OUT = 4
_MOST_UNWRITTEN = 10_000
_MOST_UNWRITTEN_BYTES = 16 * 2**20
_WRITTEN_AT_ONCE = 500
_GIVEN_UP_S = 0.5
"""When a connection is closed on which no answer comes; nobody waits that long."""


def prefix_of(model: str) -> bytes:
    """What all keys of a model begin with, as a pattern would have it."""
    return b"foretell:{" + model.encode() + b":"


def client_of(url: str, *, timeout_s: float) -> Any:
    """A client of the Redis at `url` that tries once. Raises MissingExtra, BadSettings."""
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
    except ImportError:
        words = "a cache in Redis needs the extra: pip install 'foretell[cache]'"
        raise MissingExtra(words) from None
    try:
        client: Any = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        client.connection_pool.make_connection()  # what is wrong with an option shows here
    except (ValueError, TypeError, RedisError) as error:
        raise BadSettings(f"the URL of the cache's Redis cannot be used: {error}") from None
    if client.get_encoder().decode_responses:
        raise BadSettings("the URL of the cache's Redis has decode_responses; leave it out")
    return client


def failures() -> tuple[type[BaseException], ...]:
    """What a client raises when Redis does not do what it is asked."""
    from redis.exceptions import RedisError

    return RedisError, OSError, asyncio.TimeoutError


class _Value(NamedTuple):
    """A value, for how long it lives, and whether it is to be made anew."""

    value: bytes
    left_s: float
    is_due: bool


class _Lookup:
    """Who asked in one turn, for what; until it is settled."""

    __slots__ = ("alarm", "asked", "is_settled")

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[bytes], asyncio.Future[Found]]] = []
        self.alarm: asyncio.TimerHandle | None = None
        self.is_settled = False

    def settle(self, values: dict[bytes, _Value] | None) -> bool:
        """Tell everybody; None is no answer. False when that was done before."""
        if self.is_settled:
            return False
        self.is_settled = True
        if self.alarm is not None:
            self.alarm.cancel()
        for keys, future in self.asked:
            if future.done():
                continue
            if values is None:
                future.set_result(nothing(keys, asked=False))
                continue
            found = [values.get(key) for key in keys]
            due = [place for place, one in enumerate(found) if one is not None and one.is_due]
            left_s = [0.0 if one is None else one.left_s for one in found]
            told = [None if one is None else one.value for one in found]
            future.set_result(Found(told, due, left_s))
        return True


class RedisStore:
    """Answers of the version called `model`, in the Redis at `url`, for `ttl_s` (None: no end).

    Raises MissingExtra, BadSettings.
    """

    answers_at_once = False

    def __init__(
        self, url: str, model: str, identity: bytes, *, ttl_s: float | None, timeout_s: float
    ) -> None:
        self.counts = Counts()
        self._client = client_of(url, timeout_s=max(_GIVEN_UP_S, timeout_s))
        self._prefix = prefix_of(model) + identity[:8].hex().encode() + b"}:"
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._errors = failures()
        probe = [self._prefix + b"probe"]
        self._name = f"the cache of {model} in Redis"
        self._breaker = Breaker(self._name, lambda: self._client.mget(probe), self._errors)
        self._gathering: _Lookup | None = None
        self._waiting: list[_Lookup] = []
        self._out: set[asyncio.Task[None]] = set()
        self._unwritten: dict[bytes, bytes] = {}
        self._unwritten_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._refuses = False

    def near(self, _: bytes) -> None:
        """Nothing is at hand."""

    def find(self, keys: Sequence[bytes]) -> Found | asyncio.Future[Found]:
        """The values of `keys`, or that there is no answer."""
        if self._breaker.is_open:
            return nothing(keys, asked=False)
        loop = asyncio.get_running_loop()
        lookup = self._gathering
        if lookup is None:
            lookup = self._gathering = _Lookup()
            self._waiting.append(lookup)
            lookup.alarm = loop.call_later(self._timeout_s, self._late, lookup)
            loop.call_soon(self._turn)
        future: asyncio.Future[Found] = loop.create_future()
        lookup.asked.append((keys, future))
        return future

    def _turn(self) -> None:
        self._gathering = None
        self._send()

    def _send(self) -> None:
        """Let what waits leave, as one command."""
        wait = [lookup for lookup in self._waiting if not lookup.is_settled]
        if not wait or len(self._out) >= _MOST_OUT:
            self._waiting = wait
            return
        self._waiting = [self._gathering] if self._gathering in wait else []
        leaving = [lookup for lookup in wait if lookup is not self._gathering]
        if leaving:
            task = asyncio.get_running_loop().create_task(self._ask(leaving))
            self._out.add(task)
            task.add_done_callback(self._came_back)

    def _came_back(self, task: asyncio.Task[None]) -> None:
        self._out.discard(task)
        if not task.cancelled():
            self._send()

    async def _ask(self, lookups: list[_Lookup]) -> None:
        keys = list({key: None for one in lookups for told, _ in one.asked for key in told})
        try:
            frames = await self._client.mget([self._prefix + key for key in keys])
        except self._errors as error:
            in_time = [one.settle(None) for one in lookups]
            if any(in_time):
                self._breaker.failed(_said(error))
            return
        values: dict[bytes, _Value] = {}
        now = time.time()
        for key, frame in zip(keys, frames, strict=True):
            if frame is None:
                continue
            read = unframed(key, frame)
            if read is None:
                self.counts.rejected += 1
                continue
            left_s = read.end - now if read.end else math.inf
            values[key] = _Value(read.value, left_s, self._is_due(left_s))
        in_time = [one.settle(values) for one in lookups]
        if any(in_time):
            self._breaker.worked()

    def _is_due(self, left_s: float) -> bool:
        early_s = 0.0 if self._ttl_s is None else self._ttl_s * EARLY
        return left_s < early_s and random.random() < EARLY  # noqa: S311 - no secret

    def _late(self, lookup: _Lookup) -> None:
        if self._gathering is lookup:
            self._gathering = None
        if lookup.settle(None):
            self._breaker.failed(f"no answer within {self._timeout_s * 1000:g} ms")

    def put(self, key: bytes, value: bytes) -> None:
        """Keep `value`, when there is time."""
        self._unwritten_bytes -= len(self._unwritten.pop(key, b""))
        size = len(value)
        full = len(self._unwritten) >= _MOST_UNWRITTEN
        if full or self._breaker.is_open or self._unwritten_bytes + size > _MOST_UNWRITTEN_BYTES:
            self.counts.unwritten += 1
            return
        self._unwritten[key] = value
        self._unwritten_bytes += size
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._unwritten:
                await self._write()
        finally:
            self._writing = None

    async def _write(self) -> None:
        keys = list(self._unwritten)[:_WRITTEN_AT_ONCE]
        now = time.time()
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            value = self._unwritten.pop(key)
            self._unwritten_bytes -= len(value)
            end, px = 0.0, None
            if self._ttl_s is not None:
                lives_s = self._ttl_s * random.uniform(1 - EARLY, 1)  # noqa: S311 - no secret
                end, px = now + lives_s, max(1, int(lives_s * 1000))
            pipe.set(self._prefix + key, framed(key, value, end), px=px)
        try:
            replies = await pipe.execute(raise_on_error=False)
        except self._errors as error:
            self.counts.unwritten += len(keys)
            self._breaker.failed(_said(error))
            return
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        self.counts.unwritten += len(refused)
        if bool(refused) is not self._refuses:  # full, or not allowed to
            self._refuses = bool(refused)
            if refused:
                _log.warning("%s keeps nothing more: %s", self._name, _said(refused[0]))
            else:
                _log.warning("%s keeps answers again", self._name)

    async def written(self) -> None:
        """Until all that was to be kept is there, or lost."""
        if self._writing is not None:
            await self._writing

    def drop(self, key: bytes) -> None:
        """What `key` had is no value; what the model answers now will take its place."""
        self.counts.rejected += 1

    def close(self) -> None:
        """Let go of connections; what was not written yet is lost."""
        self._breaker.close()
        for task in (*self._out, self._writing):
            if task is not None:
                task.cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the loop of the connections has ended, and they with it
        self._closing = loop.create_task(self._client.aclose())


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
