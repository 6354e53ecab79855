"""MQTT 5: messages of a topic, QoS 1, in a session that lasts while nobody is connected.

MQTT has no way to give a message back: what is not acknowledged comes again when the session
is connected again, first and in order. So a client keeps its name.
"""

import asyncio
import hashlib
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from foretell.errors import BadSettings, MissingExtra, StoreFailed
from foretell.transports.stream.brokers.places import Place, placed
from foretell.transports.stream.brokers.tls import refusal
from foretell.transports.stream.brokers.waiting import Outage, Taking
from foretell.transports.stream.message import (
    ID_HEADER,
    KEY_HEADER,
    MOST_ROWS,
    Message,
    Record,
)

_EXAMPLE = "mqtt://HOST:PORT/TOPIC?group=NAME&client=NAME (session_s=86400, leave=1)"
_OPTIONS = {"group": "", "client": "", "session_s": "86400", "leave": "0"}
_QUIET_S = 1.0
_REFUSALS = ("Bad user name or password", "Not authorized", "Client identifier not valid")


class _Client:
    """A client of paho with its thread, and what it met, seen from the event loop."""

    def __init__(self, place: Place, name: str, session_s: int) -> None:
        try:
            from paho.mqtt import client, enums, packettypes, properties
        except ImportError:
            raise MissingExtra("mqtt:// needs the extra: pip install 'foretell[stream]'") from None
        self._properties: Any = properties.Properties
        self._types = packettypes.PacketTypes
        host, _, port = place.server.rpartition(":")
        self.outage = Outage(f"MQTT at {place.server}")
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self._woken = False
        self.refused = ""
        self.connected, self.connections, self.most = False, 0, MOST_ROWS
        self.ready: Callable[[], None] | None = None  # called in paho's thread
        version = enums.CallbackAPIVersion.VERSION2
        self.paho: Any = client.Client(
            version, client_id=name, protocol=client.MQTTv5, manual_ack=True
        )
        if place.user is not None:
            self.paho.username_pw_set(place.user, place.password)
        self._last = ""  # what went wrong, of which paho's callbacks say nothing
        if place.tls is not None:
            self.paho.tls_set_context(place.tls.context())
            self.paho.on_log = self._on_log
        self.paho.reconnect_delay_set(1, 5)
        self.paho.max_inflight_messages_set(0)  # what the broker takes is kept to by the sink
        self.paho.on_connect = self._on_connect
        self.paho.on_connect_fail = self._on_connect_fail
        self.paho.on_disconnect = self._on_disconnect
        told = self.properties("CONNECT", SessionExpiryInterval=session_s, ReceiveMaximum=MOST_ROWS)
        self.paho.connect_async(
            host or place.server,
            int(port) if host else 1883 if place.tls is None else 8883,
            clean_start=session_s == 0,
            properties=told,
        )

    def properties(self, packet: str, **told: Any) -> Any:
        """Properties of MQTT 5."""
        made = self._properties(getattr(self._types, packet))
        for name, value in told.items():
            setattr(made, name, value)
        return made

    def wake(self) -> None:
        """Called in paho's thread: whoever waits looks again.

        Once is enough: a full pipe of the loop would lose a signal.
        """
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self.changed.set)

    def _on_connect(self, _: Any, __: Any, ___: Any, reason: Any, told: Any) -> None:
        if reason.is_failure:
            if str(reason) in _REFUSALS:
                self.refused = str(reason)
            else:
                self.loop.call_soon_threadsafe(self.outage.noticed, reason)
        else:
            self.most = min(MOST_ROWS, getattr(told, "ReceiveMaximum", MOST_ROWS))
            self.connected, self.connections = True, self.connections + 1
            self.paho.on_log = None  # it costs something for each message
            if self.ready is not None:
                self.ready()
            self.loop.call_soon_threadsafe(self.outage.over)
        self.wake()

    def _on_connect_fail(self, *_: Any) -> None:
        self._unreached(sys.exception() or "it cannot be reached")

    def _on_log(self, _: Any, __: Any, level: int, text: str) -> None:
        if "socket" in text:
            self._last = text

    def _unreached(self, error: object) -> None:
        if why := refusal(error) or refusal(self._last):
            self.refused = why
        else:
            self.loop.call_soon_threadsafe(self.outage.noticed, error)
        self.wake()

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self.connected = False
        if str(reason) == "Session taken over":
            self.refused = "another process has this name; give each one its own, as in ?client="
        self._unreached(reason)

    async def change(self, within: float | None = None) -> bool:
        """Wait until something happens. Raises StoreFailed when the broker refuses."""
        if self.refused:
            raise StoreFailed(f"{self.outage.broker} refuses: {self.refused}")
        try:
            await asyncio.wait_for(self.changed.wait(), within)
        except TimeoutError:
            return False
        self._woken = False  # what happens from here on wakes again; what did is looked at next
        self.changed.clear()
        return True

    async def close(self, **told: Any) -> None:
        """Say that it goes, and end the thread."""
        self.loop.call_soon_threadsafe(self.changed.set)
        self.paho.on_disconnect = None
        self.paho.disconnect(properties=self.properties("DISCONNECT", **told))
        await asyncio.to_thread(self.paho.loop_stop)


class MqttSource:
    """A subscriber with a name; those of one group share the messages."""

    def __init__(self, place: Place) -> None:
        group, self._leaves = place.options["group"], place.options["leave"] == "1"
        self._filter = f"$share/{group}/{place.name}" if group else place.name
        named = place.options["client"] or f"foretell-{socket.gethostname()}-{group or 'alone'}"
        self._client = _Client(place, named, int(place.seconds("session_s")))
        self._client.ready = self._subscribe
        self._client.paho.on_message = self._on_message
        self._came: deque[tuple[int, Any]] = deque()
        self._begun, self._ended = False, False
        self._taking = Taking(self._took)

    def _subscribe(self) -> None:
        self._came.clear()  # all of it comes again, with the same packet ids
        self._client.paho.subscribe(self._filter, 1)

    def _on_message(self, _: Any, __: Any, told: Any) -> None:
        self._came.append((self._client.connections, told))
        if len(self._came) == 1:
            self._client.wake()

    async def take(self, most: int) -> Sequence[Message]:
        """What has arrived."""
        if self._ended and self._leaves:
            # the broker has sent all it had for this session when nothing comes any more
            while not self._came and await self._client.change(_QUIET_S):
                pass
            return self._handed(most)
        return await self._taking.messages(most)

    async def _took(self, most: int) -> Sequence[Message]:
        if not self._begun:
            self._client.paho.loop_start()
            self._begun = True
        while not self._came:
            await self._client.change()
        return self._handed(most)

    def _handed(self, most: int) -> list[Message]:
        found: list[Message] = []
        while self._came and len(found) < most:
            found.append(self._message(*self._came.popleft()))
        return found

    def _message(self, connection: int, told: Any) -> Message:
        pairs = getattr(told.properties, "UserProperty", [])
        headers = tuple((name, value.encode()) for name, value in pairs)
        if kind := getattr(told.properties, "ContentType", ""):
            headers = (("content-type", kind.encode()), *headers)
        digest = hashlib.sha256(told.payload)
        for name, value in headers:
            digest.update(f"\0{name}\0".encode() + value)
        return Message(
            f"{told.topic}/{digest.hexdigest()[:32]}",
            told.payload,
            dict(headers).get(KEY_HEADER),
            headers,
            2 if told.dup else 1,
            None,
            (connection, told.mid),
        )

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Those of a connection that is gone come again, and are acknowledged then."""
        for message in messages:
            connection, number = message.receipt
            if self._client.connected and connection == self._client.connections:
                self._client.paho.ack(number, 1)

    async def lag(self) -> None:
        """MQTT has no word for it."""

    def finish(self) -> None:
        """What comes next stays in the session; who leaves for good takes what it has for it."""
        if not self._ended and self._leaves and self._begun:
            self._client.paho.unsubscribe(self._filter)
        self._ended = True
        self._taking.finish()

    async def close(self) -> None:
        """The session stays, but of who leaves for good."""
        await self._taking.close()
        ends = {"SessionExpiryInterval": 0} if self._leaves and self._ended else {}
        await self._client.close(**ends)


class MqttSink:
    """Messages with QoS 1; key, id and headers are user properties."""

    def __init__(self, place: Place) -> None:
        if "+" in place.name or "#" in place.name:
            raise BadSettings(f"{place.name} is a filter; name one topic to publish to")
        if place.tls is not None:
            place.tls.context()  # what cannot be used is said now
        self._place = place
        self._client: _Client | None = None
        self._waited: set[int] = set()

    async def publish(self, records: Sequence[Record]) -> None:
        """Hand over `records`; after a break, all of them again, with the same ids."""
        while True:
            client = self._client
            if client is None:
                client = self._client = _Client(self._place, "", 0)
                client.paho.on_publish = self._on_publish
                client.paho.loop_start()
            while not client.connected:
                await client.change()
            at, most = 0, client.most
            while at < len(records) and await self._all_out(client, records[at : at + most]):
                at += most
            if at >= len(records):
                return
            await client.close()
            self._client = None

    async def _all_out(self, client: _Client, records: Sequence[Record]) -> bool:
        """Whether all of `records`, no more than the broker takes at once, have been accepted."""
        connection, self._waited = client.connections, set()
        sent = [self._sent(client, one) for one in records]
        while client.connected and client.connections == connection:
            if self._waited.issuperset(sent):
                return True
            await client.change()
        return False

    def _sent(self, client: _Client, record: Record) -> int:
        pairs = [(ID_HEADER, record.id)]
        pairs += [(name, raw.decode(errors="replace")) for name, raw in record.headers]
        if record.key is not None:
            pairs.append((KEY_HEADER, record.key.decode(errors="replace")))
        told = client.properties("PUBLISH", UserProperty=pairs)
        number: int = client.paho.publish(self._place.name, record.value, 1, properties=told).mid
        return number

    def _on_publish(self, paho: Any, _: Any, number: int, reason: Any, __: Any) -> None:
        client = self._client
        if client is None or paho is not client.paho:
            return
        if reason.is_failure:
            client.refused = f"the broker does not take a message: {reason}"
        self._waited.add(number)
        client.wake()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def source_of(url: str) -> MqttSource:
    """The topic at `url` (…//HOST:PORT/TOPIC?group=G). Raises BadSettings, MissingExtra."""
    return MqttSource(placed(url, _OPTIONS, _EXAMPLE))


def sink_of(url: str) -> MqttSink:
    """The topic at `url`. Raises BadSettings, MissingExtra."""
    return MqttSink(placed(url, _OPTIONS, _EXAMPLE))
