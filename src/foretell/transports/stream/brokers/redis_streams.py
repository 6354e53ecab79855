"""Redis Streams: entries of a stream, read by a consumer group; the message is the field `data`.

An entry stays pending until it is acknowledged. Redis gives nobody what a killed consumer had,
so every consumer claims what has been pending for too long.
"""

import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from foretell.errors import BadSettings, MissingExtra, StoreFailed
from foretell.transports.stream.brokers.places import Place, placed
from foretell.transports.stream.brokers.tls import Tls
from foretell.transports.stream.brokers.waiting import Outage
from foretell.transports.stream.formats import TEXTS
from foretell.transports.stream.message import Headers, Message, Record

_BLOCK_MS = 1000
_EXAMPLE = "redis://HOST:PORT/STREAM?group=NAME&claim_s=30"
_OPTIONS = {"group": "foretell", "claim_s": "30", "consumer": ""}

Came = TypeVar("Came")


class Connection:
    """Commands to one server; while it is away, they wait."""

    def __init__(self, place: Place) -> None:
        try:
            import redis.asyncio
        except ImportError:
            raise MissingExtra("redis:// needs the extra: pip install 'foretell[stream]'") from None
        self._errors = redis.exceptions
        self._shown = place.server
        self._outage = Outage(f"Redis at {place.server}")
        try:
            self.client: Any = redis.asyncio.Redis.from_url(
                f"redis://{place.server}",
                username=place.user or None,
                password=place.password,
                socket_connect_timeout=5,
            )
            if place.tls is not None:
                self.client.connection_pool.connection_class = _secure(place.tls)
        except ValueError as error:
            raise BadSettings(f"the address of Redis cannot be used: {error}") from None

    async def tried(self, command: Callable[[], Awaitable[Came]]) -> Came:
        """What `command` gives, however long the server is away. Raises StoreFailed."""
        while True:
            try:
                came = await command()
            except self._errors.AuthenticationError as error:
                raise StoreFailed(f"Redis at {self._shown} refuses the password: {error}") from None
            except (self._errors.ConnectionError, self._errors.TimeoutError) as error:
                await self._outage.sit_out(error)
            except self._errors.RedisError as error:
                raise StoreFailed(f"Redis at {self._shown} refuses: {error}") from error
            else:
                self._outage.over()
                return came


def _secure(tls: Tls) -> Any:
    """A connection of redis-py that trusts the named authorities alone, not the system's, too."""
    from redis.asyncio.connection import SSLConnection

    context = tls.context()

    class Secure(SSLConnection):
        def __init__(self, **told: Any) -> None:
            super().__init__(**told)
            self.ssl_context.context = context

    return Secure


class RedisSource:
    """A consumer of a group."""

    def __init__(self, place: Place) -> None:
        self._connection = Connection(place)
        self._client = self._connection.client
        self._stream, self._group = place.name, place.options["group"]
        self._claim_s = place.seconds("claim_s")
        named = place.options["consumer"]
        self._consumer = named or f"{socket.gethostname()}-{os.getpid()}"
        self._own_left = bool(named)  # who had this name before may have left some
        self._claim_at, self._grouped, self._ended = 0.0, False, False
        self._deliveries = 1  # of the entries that were read last, as far as it matters

    async def take(self, most: int) -> Sequence[Message]:
        """New entries, or those that somebody else has left."""
        while not self._ended:
            entries = await self._connection.tried(lambda: self._entries(most))
            if entries:
                return [
                    _message(self._stream, number, fields, self._deliveries)
                    for number, fields in entries
                ]
        return ()

    async def _entries(self, most: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        import redis

        client, stream, group = self._client, self._stream, self._group
        self._deliveries = 2
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
            self._own_left, self._deliveries = False, 1
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._grouped = False  # the server came back without what it had
            return []
        return list(read[0][1]) if read else []

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """These are no longer pending."""
        numbers = [message.receipt for message in messages]
        await self._connection.tried(lambda: self._client.xack(self._stream, self._group, *numbers))

    async def lag(self) -> int | None:
        """What the group has not had and what is pending; before Redis 7, nobody can tell."""
        if not self._grouped:
            return None
        for group in await self._connection.tried(lambda: self._client.xinfo_groups(self._stream)):
            if group["name"] == self._group.encode() and group.get("lag") is not None:
                return int(group["lag"]) + int(group["pending"])
        return None

    def finish(self) -> None:
        """Nothing is read ahead."""
        self._ended = True

    async def close(self) -> None:
        await self._client.aclose()


class RedisSink:
    """Entries with the fields `data` and `id`, perhaps `key`, and one for each header."""

    def __init__(self, place: Place) -> None:
        self._connection = Connection(place)
        self._stream = place.name

    async def publish(self, records: Sequence[Record]) -> None:
        """Add all of `records`; after a break, again, with the same ids."""

        async def add() -> None:
            async with self._connection.client.pipeline(transaction=False) as pipe:
                for record in records:
                    fields: dict[str, Any] = dict(record.headers)
                    if record.key is not None:
                        fields["key"] = record.key
                    pipe.xadd(self._stream, fields | {"id": record.id, "data": record.value})
                await pipe.execute()

        await self._connection.tried(add)

    async def close(self) -> None:
        await self._connection.client.aclose()


def source_of(url: str) -> RedisSource:
    """The stream at `url` (…//HOST:PORT/STREAM?group=G). Raises BadSettings, MissingExtra."""
    return RedisSource(_placed(url))


def sink_of(url: str) -> RedisSink:
    """The stream at `url`. Raises BadSettings, MissingExtra."""
    return RedisSink(_placed(url))


def _placed(url: str) -> Place:
    told = placed(url, _OPTIONS, _EXAMPLE)
    if "/" in told.name:
        raise BadSettings(f"write it as in {_EXAMPLE}")
    return told


def _message(stream: str, number: bytes, fields: dict[bytes, bytes], deliveries: int) -> Message:
    """The entry as a message: its field `data`, or else all fields as texts by name."""
    value, key = fields.get(b"data"), None
    headers: Headers = ()
    if value is None:
        told = {_text(name): _text(fields[name]) for name in fields}
        value = msgspec.json.encode(told)
        headers = (("content-type", TEXTS.encode()),)
    elif len(fields) > 1:
        key = fields.get(b"key")
        others = (name for name in fields if name not in (b"data", b"key"))
        headers = tuple((_text(name), fields[name]) for name in others)
    at = int(number.partition(b"-")[0]) / 1000
    return Message(f"{stream}/{number.decode()}", value, key, headers, deliveries, at, number)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
