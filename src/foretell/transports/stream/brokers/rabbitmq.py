"""RabbitMQ: messages of a queue, which come back when the connection of who had them ends."""

import asyncio
import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from foretell.errors import MissingExtra, StoreFailed
from foretell.transports.stream.brokers.places import Place, placed
from foretell.transports.stream.brokers.waiting import Outage, Taking
from foretell.transports.stream.message import (
    ID_HEADER,
    KEY_HEADER,
    MOST_ROWS,
    Headers,
    Message,
    Record,
)

_EXAMPLE = "amqp://USER:PASSWORD@HOST:PORT/QUEUE?vhost=/"
_OPTIONS = {"vhost": "/"}
_ANSWER_S = 5.0

for _chatty in ("aiormq", "aio_pika"):
    logging.getLogger(_chatty).setLevel(logging.CRITICAL)  # outages are one line of ours


class _Connection:
    """A connection with one channel and its queue; when they are gone, others are made."""

    def __init__(self, place: Place) -> None:
        try:
            import aio_pika
        except ImportError:
            raise MissingExtra("amqp:// needs the extra: pip install 'foretell[stream]'") from None
        self.pika: Any = aio_pika
        self.away = (aio_pika.exceptions.AMQPError, TimeoutError, OSError, RuntimeError)
        self.outage = Outage(f"RabbitMQ at {place.server}")
        self._place = place
        self._tls = None if place.tls is None else place.tls.context()
        self._connection: Any = None
        self.channel: Any = None
        self.queue: Any = None

    @property
    def broken(self) -> bool:
        """Whether there is no channel, or none any more."""
        return self.channel is None or self.channel.is_closed

    async def open(self) -> None:
        """Make a channel; a queue that is not there is made, too. Raises StoreFailed."""
        host, _, port = self._place.server.rpartition(":")
        wrong = self.pika.exceptions
        while True:
            await self.close()
            try:
                self._connection = await self.pika.connect(
                    host=host or self._place.server,
                    port=int(port) if host else 5672 if self._tls is None else 5671,
                    login=self._place.user or "guest",
                    password=self._place.password or "guest",
                    virtualhost=self._place.options["vhost"],
                    ssl=self._tls is not None,
                    ssl_context=self._tls,
                    timeout=_ANSWER_S,
                )
                await self._declared()
            except (wrong.ProbableAuthenticationError, wrong.AuthenticationError) as error:
                raise StoreFailed(f"RabbitMQ refuses the user or the password: {error}") from None
            except self.away as error:
                await self.outage.sit_out(error)
            else:
                self.outage.over()
                return

    async def _declared(self) -> None:
        self.channel = await self._connection.channel(on_return_raises=True)
        try:
            self.queue = await self.channel.get_queue(self._place.name)
        except self.pika.exceptions.ChannelNotFoundEntity:
            self.channel = await self._connection.channel(on_return_raises=True)
            self.queue = await self.channel.declare_queue(self._place.name, durable=True)

    async def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(*self.away):
                await self._connection.close()
        self._connection = self.channel = self.queue = None


class RabbitSource:
    """A consumer of a queue."""

    def __init__(self, place: Place) -> None:
        self._connection, self._name = _Connection(place), place.name
        self._came: deque[Any] = deque()  # of the channel that is open
        self._there = asyncio.Event()
        self._taking = Taking(self._took)

    async def take(self, most: int) -> Sequence[Message]:
        """What has arrived."""
        return await self._taking.messages(most)

    async def _took(self, most: int) -> Sequence[Message]:
        if self._connection.broken:
            await self._consume()
        await self._there.wait()
        if self._connection.broken:
            return ()
        raw = [self._came.popleft() for _ in range(min(most, len(self._came)))]
        if not self._came:
            self._there.clear()
        return [self._message(one) for one in raw]

    async def _consume(self) -> None:
        """Begin on a new channel: what the last one had comes again, marked as redelivered."""
        while self._connection.broken:
            self._came.clear()
            self._there.clear()
            await self._connection.open()
            channel = self._connection.channel
            channel.close_callbacks.add(self._woken)

            async def came(told: Any, channel: Any = channel) -> None:
                if channel is self._connection.channel:
                    self._came.append(told)
                    self._there.set()

            try:
                await channel.set_qos(prefetch_count=2 * MOST_ROWS)
                await self._connection.queue.consume(came)
            except self._connection.away as error:
                await self._connection.outage.sit_out(error)

    def _woken(self, *_: Any) -> None:
        self._there.set()

    def _message(self, told: Any) -> Message:
        headers = tuple((name, _raw(value)) for name, value in (told.headers or {}).items())
        if told.content_type:
            headers = (("content-type", told.content_type.encode()), *headers)
        offset = told.headers.get("x-stream-offset")
        own = told.message_id or (offset is not None and f"{offset}") or _digest(told, headers)
        counted = int(told.headers.get("x-delivery-count", 0)) + 1
        return Message(
            f"{self._name}/{own}",
            told.body,
            dict(headers).get(KEY_HEADER),
            headers,
            max(counted, 2) if told.redelivered else counted,
            told.timestamp.timestamp() if told.timestamp else None,
            told,
        )

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """All up to the last of these, which came in order; who lost its channel comes again."""
        last = messages[-1].receipt
        if self._connection.broken or last.channel is not self._connection.channel.channel:
            return
        try:
            await last.ack(multiple=True)
        except self._connection.away as error:
            self._connection.outage.noticed(error)

    async def lag(self) -> int | None:
        """What waits in the queue, and what has arrived here."""
        if self._connection.broken:
            return None
        try:
            told = await self._connection.queue.declare()
        except self._connection.away:
            return None
        return int(told.message_count) + len(self._came)

    def finish(self) -> None:
        """What has arrived and was not taken goes back when the connection ends."""
        self._taking.finish()

    async def close(self) -> None:
        await self._taking.close()
        await self._connection.close()


class RabbitSink:
    """Messages to the queue, through the default exchange, each confirmed."""

    def __init__(self, place: Place) -> None:
        self._connection, self._name = _Connection(place), place.name

    async def publish(self, records: Sequence[Record]) -> None:
        """Hand over `records`; the broker has confirmed them."""
        while True:
            if self._connection.broken:
                await self._connection.open()
            came = await self._sent(records)
            failed = next((one for one in came if isinstance(one, BaseException)), None)
            if failed is None:
                self._connection.outage.over()
                return
            if not isinstance(failed, self._connection.away):
                raise failed
            if isinstance(failed, self._connection.pika.exceptions.PublishError):
                await self._connection.close()  # the queue has gone; opening makes it again
            await self._connection.outage.sit_out(failed)

    async def _sent(self, records: Sequence[Record]) -> list[Any]:
        """What became of each. No write is waited for, only the confirms: one waits for all."""
        try:
            channel = await self._connection.channel.get_underlay_channel()
        except self._connection.away as error:
            return [error]
        sent = (
            channel.basic_publish(
                one.value,
                routing_key=self._name,
                properties=self._made(one).properties,
                mandatory=True,
                wait=False,
            )
            for one in records
        )
        return await asyncio.gather(*sent, return_exceptions=True)

    def _made(self, record: Record) -> Any:
        headers = {ID_HEADER: record.id, **{name: _told(raw) for name, raw in record.headers}}
        if record.key is not None:
            headers[KEY_HEADER] = _told(record.key)
        return self._connection.pika.Message(
            record.value,
            headers=headers,
            message_id=record.id,
            content_type="application/json",
            delivery_mode=self._connection.pika.DeliveryMode.PERSISTENT,
        )

    async def close(self) -> None:
        await self._connection.close()


def source_of(url: str) -> RabbitSource:
    """The queue at `url` (…//USER:PASSWORD@HOST:PORT/QUEUE). Raises BadSettings, MissingExtra."""
    return RabbitSource(placed(url, _OPTIONS, _EXAMPLE))


def sink_of(url: str) -> RabbitSink:
    """The queue at `url`. Raises BadSettings, MissingExtra."""
    return RabbitSink(placed(url, _OPTIONS, _EXAMPLE))


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _told(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _digest(told: Any, headers: Headers) -> str:
    """Where a queue has no positions and the producer gave no name: the message itself."""
    digest = hashlib.sha256(told.body)
    for name, value in headers:
        if not name.startswith("x-"):  # the broker's own change with a delivery
            digest.update(f"\0{name}\0".encode() + value)
    digest.update(str(told.timestamp).encode())
    return digest.hexdigest()[:32]
