"""NATS JetStream: messages of a stream, pulled by a durable consumer.

One request asks for many messages and stays open, so what arrives while a batch is scored is here
when it is done. What a killed process had comes again when the time to acknowledge has passed.
"""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from foretell.errors import MissingExtra, StoreFailed
from foretell.transports.stream.brokers.places import Place, placed
from foretell.transports.stream.brokers.tls import refusal
from foretell.transports.stream.brokers.waiting import Outage, Taking
from foretell.transports.stream.message import (
    ID_HEADER,
    KEY_HEADER,
    MOST_ROWS,
    Headers,
    Message,
    Record,
)

_EXAMPLE = "nats://HOST:PORT/SUBJECT?stream=NAME&durable=NAME&ack_s=30"
_OPTIONS = {"stream": "", "durable": "foretell", "ack_s": "30"}
_ANSWER_S = 5.0
_REQUEST_S = 5.0
_MOST_PENDING = 16 * MOST_ROWS

Came = TypeVar("Came")


def _is_of_use(told: logging.LogRecord) -> bool:
    """What asyncio says each time that a connection of nats-py over TLS ends is not."""
    return "eof_received() has no effect" not in str(told.msg)


class _Connection:
    """A connection that is made when it is first needed, and made again when it breaks."""

    def __init__(self, place: Place) -> None:
        try:
            import nats
        except ImportError:
            raise MissingExtra("nats:// needs the extra: pip install 'foretell[stream]'") from None
        self._nats: Any = nats
        self._place = place
        self.outage = Outage(f"NATS at {place.server}")
        self._client: Any = None
        self._tls = None if place.tls is None else place.tls.context()
        self._refused, self._why = asyncio.Event(), " the user or the password"
        self.breaks = 0

    async def client(self) -> Any:
        """The client, connected at least once. Raises StoreFailed."""
        if self._client is None:
            made = self._nats.NATS() if self._tls is None else self._secure()
            connecting = asyncio.ensure_future(
                made.connect(
                    f"nats://{self._place.server}",
                    name="foretell",
                    user=self._place.user,
                    password=self._place.password,
                    tls=self._tls,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    connect_timeout=2,
                    error_cb=self._failed,
                    disconnected_cb=self._broken,
                    reconnected_cb=self._back,
                )
            )
            refused = asyncio.ensure_future(self._refused.wait())
            try:
                await asyncio.wait((connecting, refused), return_when=asyncio.FIRST_COMPLETED)
                self.check()
                await connecting
            except self._nats.errors.Error as error:
                raise StoreFailed(f"NATS at {self._place.server} refuses: {error}") from None
            finally:
                connecting.cancel()
                refused.cancel()
            self._client = made
        return self._client

    def _secure(self) -> Any:
        """A client that says nothing in clear: nats-py goes without TLS where a server has none."""

        class Secure(self._nats.NATS):  # type: ignore[name-defined, misc]  # known at run time
            async def _process_info(self, info: Any, initial_connection: bool = False) -> None:
                if initial_connection and not info.get("tls_required"):
                    raise ssl.SSLError("WRONG_VERSION_NUMBER")
                await super()._process_info(info, initial_connection)

        logging.getLogger("asyncio").addFilter(_is_of_use)
        return Secure()

    async def _failed(self, error: Exception) -> None:
        if why := refusal(error):
            self._why = f": {why}"
            self._refused.set()
        elif "uthorization" in str(error) or "uthentication" in str(error):
            self._refused.set()
        else:
            self.outage.noticed(error)

    async def _broken(self) -> None:
        self.breaks += 1

    async def _back(self) -> None:
        self.outage.over()

    def check(self) -> None:
        """Raises StoreFailed when the server has said that it will not do."""
        if self._refused.is_set():
            raise StoreFailed(f"NATS at {self._place.server} refuses{self._why}")

    async def tried(self, command: Callable[[Any], Awaitable[Came]]) -> Came:
        """What `command` gives of a client, however long the server is away. Raises StoreFailed."""
        while True:
            client = await self.client()
            try:
                came = await command(client)
            except (self._nats.errors.Error, TimeoutError, OSError) as error:
                self.check()
                await self.outage.sit_out(repr(error) if not str(error) else error)
            else:
                self.outage.over()
                return came

    async def close(self) -> None:
        """What was published is sent."""
        if self._client is not None:
            with contextlib.suppress(self._nats.errors.Error, TimeoutError, OSError):
                await self._client.flush(timeout=1)
            await self._client.close()


class NatsSource:
    """A durable pull consumer, which processes of one name share."""

    def __init__(self, place: Place) -> None:
        self._connection, self._place = _Connection(place), place
        self._ack_s = place.seconds("ack_s")
        self._stream = place.options["stream"]
        self._came: Any = None
        self._asked, self._breaks, self._asked_at = 0, 0, 0.0
        self._taking = Taking(self._took)

    async def take(self, most: int) -> Sequence[Message]:
        """What has arrived."""
        return await self._taking.messages(most)

    async def _took(self, most: int) -> Sequence[Message]:
        if self._came is None:
            self._came = await self._connection.tried(self._subscribed)
        if self._asked <= 0 or self._breaks != self._connection.breaks:
            self._breaks = self._connection.breaks
            await self._connection.tried(self._ask)
            self._asked = most
        try:
            first = await self._came.next_msg(timeout=_REQUEST_S + 1)
        except TimeoutError:
            self._asked = 0  # whatever became of the request, another one does no harm
            return ()
        raw = [first]
        while self._came.pending_msgs and len(raw) < most:
            raw.append(await self._came.next_msg(timeout=1))
        found = [self._message(one) for one in raw if not self._is_status(one)]
        self._asked -= len(found)
        return found

    def _is_status(self, told: Any) -> bool:
        """A request has ended: nothing came for some time, or the server went."""
        status = not told.data and (told.headers or {}).get("Status")
        if status and status != "100":
            self._asked = 0
        return bool(status)

    async def _subscribed(self, client: Any) -> Any:
        from nats.js.api import AckPolicy, ConsumerConfig
        from nats.js.errors import NotFoundError

        manager = client.jsm()
        subject, durable = self._place.name, self._place.options["durable"]
        if not self._stream:
            self._stream = await manager.find_stream_name_by_subject(subject)
        try:
            info = await manager.consumer_info(self._stream, durable)
        except NotFoundError:
            info = await manager.add_consumer(
                self._stream,
                ConsumerConfig(
                    durable_name=durable,
                    filter_subject=subject,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=self._ack_s,
                    max_ack_pending=_MOST_PENDING,
                ),
            )
        # what somebody had comes again, and before anything new: that keeps the order
        until = asyncio.get_running_loop().time() + (info.config.ack_wait or self._ack_s)
        while info.num_ack_pending and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, 0.25))
            info = await manager.consumer_info(self._stream, durable)
        return await client.subscribe(client.new_inbox(), pending_msgs_limit=-1)

    async def _ask(self, client: Any) -> None:
        request = {"batch": MOST_ROWS, "expires": int(_REQUEST_S * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._place.options['durable']}"
        await client.publish(subject, json.dumps(request).encode(), reply=self._came.subject)

    def _message(self, told: Any) -> Message:
        of = told.metadata
        headers: Headers = ()
        key = None
        if told.headers:
            headers = tuple((name, value.encode()) for name, value in told.headers.items())
            named = told.headers.get(KEY_HEADER)
            key = named.encode() if named is not None else None
        return Message(
            f"{of.stream}/{of.sequence.stream}",
            told.data,
            key,
            headers,
            of.num_delivered,
            of.timestamp.timestamp(),
            told.reply,
        )

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """The server has been told when this returns; what it misses comes again."""

        async def told(client: Any) -> None:
            for message in messages:
                await client.publish(message.receipt, b"+ACK")
            await client.flush(timeout=_ANSWER_S)

        await self._connection.tried(told)

    async def lag(self) -> int | None:
        """What the consumer has not sent, and what is not acknowledged."""
        if self._came is None:
            return None
        name = self._place.options["durable"]

        async def asked(client: Any) -> Any:
            return await client.jsm().consumer_info(self._stream, name)

        info = await self._connection.tried(asked)
        return int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    def finish(self) -> None:
        """What is being asked for is handed over."""
        self._taking.finish()

    async def close(self) -> None:
        """What was sent here, but not taken, goes back to the stream at once."""
        await self._taking.close()
        if self._came is not None:
            client = await self._connection.client()
            while self._came.pending_msgs and client.is_connected:
                told = await self._came.next_msg(timeout=1)
                if not self._is_status(told):
                    await client.publish(told.reply, b"-NAK")
        await self._connection.close()


class NatsSink:
    """Messages with the header Nats-Msg-Id: the stream drops those it has had, in its window."""

    def __init__(self, place: Place) -> None:
        self._connection, self._place = _Connection(place), place
        self._context: Any = None

    async def publish(self, records: Sequence[Record]) -> None:
        """Hand over `records`; the stream has said that it has them."""

        async def all_out(client: Any) -> None:
            if self._context is None:
                self._context = client.jetstream(publish_async_max_pending=2 * MOST_ROWS)
            waiting = [await self._begun(record) for record in records]
            _, left = await asyncio.wait(waiting, timeout=_ANSWER_S)
            for one in left:
                one.cancel()
            if left:
                raise TimeoutError(f"{len(left)} messages have no answer")
            for one in waiting:
                one.result()

        await self._connection.tried(all_out)

    async def _begun(self, record: Record) -> Any:
        headers = {"Nats-Msg-Id": record.id, ID_HEADER: record.id}
        headers |= {name: raw.decode(errors="replace") for name, raw in record.headers}
        if record.key is not None:
            headers[KEY_HEADER] = record.key.decode(errors="replace")
        return await self._context.publish_async(
            self._place.name, record.value, wait_stall=_ANSWER_S, headers=headers
        )

    async def close(self) -> None:
        await self._connection.close()


def source_of(url: str) -> NatsSource:
    """The subject at `url` (…//HOST:PORT/SUBJECT?durable=D). Raises BadSettings, MissingExtra."""
    return NatsSource(placed(url, _OPTIONS, _EXAMPLE))


def sink_of(url: str) -> NatsSink:
    """The subject at `url`. Raises BadSettings, MissingExtra."""
    return NatsSink(placed(url, _OPTIONS, _EXAMPLE))
