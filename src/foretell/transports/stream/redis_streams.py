"""Redis Streams: entries of a stream, read by a consumer group; the message is the field `data`.

An entry stays pending until it is acknowledged. Redis gives nobody what a killed consumer had,
so every consumer claims what has been pending for too long.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec

from foretell.errors import BadSettings, MissingExtra, StoreFailed
from foretell.transports.stream.message import Message, Record

_log = logging.getLogger("foretell.stream")
_BLOCK_MS = 1000
_LEAST_S, _MOST_S = 0.1, 5.0
_OPTIONS = {"group": "foretell", "claim_s": "30", "consumer": ""}

Came = TypeVar("Came")


class _Place(NamedTuple):
    """What a URL says: the server, the stream, and the options of a group."""

    server: str
    stream: str
    options: dict[str, str]


class _Connection:
    """Commands to one server; while it is away, they wait."""

    def __init__(self, server: str) -> None:
        try:
            import redis.asyncio
        except ImportError:
            raise MissingExtra("redis:// needs the extra: pip install 'foretell[stream]'") from None
        self._errors = redis.exceptions
        self._shown = server.rpartition("@")[2].removeprefix("redis://")
        try:
            self.client: Any = redis.asyncio.Redis.from_url(server, socket_connect_timeout=5)
        except ValueError as error:
            raise BadSettings(f"the address of Redis cannot be used: {error}") from None

    async def tried(self, command: Callable[[], Awaitable[Came]]) -> Came:
        """What `command` gives, however long the server is away. Raises StoreFailed."""
        pause = _LEAST_S
        while True:
            try:
                came = await command()
            except self._errors.AuthenticationError as error:
                raise StoreFailed(f"Redis at {self._shown} refuses the password: {error}") from None
            except (self._errors.ConnectionError, self._errors.TimeoutError) as error:
                if pause == _LEAST_S:
                    _log.warning("Redis at %s is away (%s); waiting for it", self._shown, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MOST_S)
            except self._errors.RedisError as error:
                raise StoreFailed(f"Redis at {self._shown} refuses: {error}") from error
            else:
                if pause > _LEAST_S:
                    _log.warning("Redis at %s is back", self._shown)
                return came


class RedisSource:
    """A consumer of a group."""

    def __init__(self, place: _Place) -> None:
        self._connection = _Connection(place.server)
        self._client = self._connection.client
        self._stream, self._group = place.stream, place.options["group"]
        self._claim_s = float(place.options["claim_s"])
        named = place.options["consumer"]
        self._consumer = named or f"{socket.gethostname()}-{os.getpid()}"
        self._own_left = bool(named)  # who had this name before may have left some
        self._claim_at, self._grouped, self._ended = 0.0, False, False

    async def take(self, most: int) -> Sequence[Message]:
        """New entries, or those that somebody else has left."""
        while not self._ended:
            entries = await self._connection.tried(lambda: self._entries(most))
            if entries:
                return [
                    Message(f"{self._stream}/{number.decode()}", _value_of(fields))
                    for number, fields in entries
                ]
        return ()

    async def _entries(self, most: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        import redis

        client, stream, group = self._client, self._stream, self._group
        if not self._grouped:
            try:
                await client.xgroup_create(stream, group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            self._grouped = True
        try:
            if self._own_left:
                read = await client.xreadgroup(group, self._consumer, {stream: "0"}, count=most)
                own = [(number, fields) for number, fields in read[0][1] if fields]
                if own:
                    return own
            self._own_left = True  # until the reply is here: a break may lose it on its way
            if time.monotonic() >= self._claim_at:
                idle = int(self._claim_s * 1000)
                came = await client.xautoclaim(
                    stream, group, self._consumer, min_idle_time=idle, count=most
                )
                left = [(number, fields) for number, fields in came[1] if fields is not None]
                if left:
                    self._own_left = False
                    return left
                self._claim_at = time.monotonic() + self._claim_s / 2
            read = await client.xreadgroup(
                group, self._consumer, {stream: ">"}, count=most, block=_BLOCK_MS
            )
            self._own_left = False
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._grouped = False  # the server came back without what it had
            return []
        return list(read[0][1]) if read else []

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """These are no longer pending."""
        numbers = [message.position.rpartition("/")[2] for message in messages]
        await self._connection.tried(lambda: self._client.xack(self._stream, self._group, *numbers))

    def finish(self) -> None:
        """Nothing is read ahead."""
        self._ended = True

    async def close(self) -> None:
        await self._client.aclose()


class RedisSink:
    """Entries with the fields `data` and `id`."""

    def __init__(self, place: _Place) -> None:
        self._connection = _Connection(place.server)
        self._stream = place.stream

    async def publish(self, records: Sequence[Record]) -> None:
        """Add all of `records`; after a break, again, with the same ids."""

        async def add() -> None:
            async with self._connection.client.pipeline(transaction=False) as pipe:
                for record in records:
                    pipe.xadd(self._stream, {"id": record.id, "data": record.value})
                await pipe.execute()

        await self._connection.tried(add)

    async def close(self) -> None:
        await self._connection.client.aclose()


def source_of(place: str) -> RedisSource:
    """The stream at `place` (//HOST:PORT/STREAM?group=G). Raises BadSettings, MissingExtra."""
    return RedisSource(_placed(place))


def sink_of(place: str) -> RedisSink:
    """The stream at `place`. Raises BadSettings, MissingExtra."""
    return RedisSink(_placed(place))


def _placed(place: str) -> _Place:
    told = urlsplit(f"redis:{place}")
    options = _OPTIONS | dict(parse_qsl(told.query))
    stream = told.path.strip("/")
    wrong = [name for name in options if name not in _OPTIONS]
    if not told.netloc or not stream or "/" in stream or wrong:
        raise BadSettings("write Redis as in redis://HOST:PORT/STREAM?group=NAME&claim_s=30")
    try:
        usable = float(options["claim_s"]) > 0
    except ValueError:
        usable = False
    if not usable:
        raise BadSettings(f"claim_s={options['claim_s']}: write a number of seconds above 0")
    return _Place(urlunsplit(("redis", told.netloc, "", "", "")), stream, options)


def _value_of(fields: dict[bytes, bytes]) -> bytes:
    if b"data" in fields:
        return fields[b"data"]
    told = {name.decode(errors="replace"): fields[name].decode(errors="replace") for name in fields}
    return msgspec.json.encode(told)
