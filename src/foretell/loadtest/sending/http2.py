"""A gRPC link speaks gRPC over one HTTP/2 connection, with several calls under way.

grpcio costs its own process several times what a request costs the server, and would be measured
in its place. This writes frames that were made beforehand, and reads what a call comes to.

Rules:

1. Header blocks need no state: the server is told to keep no table of headers.
2. Nothing is sent that the server's windows have no room for; it waits its turn.
3. A call is answered when the trailers say status 0 and the message is whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast
from urllib.parse import unquote

from foretell.client.calling import Request
from foretell.errors import MissingExtra
from foretell.loadtest.sending.links import GONE, SILENT, Call, Driver, Place

STREAMS = 8
"""Calls under way on one connection, unless there are fewer in all."""

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _MORE = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_HUGE = 2**31 - 1
_WINDOW_NOW = 65_535
_REFILL = 2**28
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class GrpcMessage(NamedTuple):
    """A call as it goes over the connection: its block of headers, and its message in frames."""

    headers: bytes
    data: bytes


def written(request: Request, place: Place) -> GrpcMessage:
    """What stands in the frames of a call."""
    told = {
        ":method": "POST",
        ":scheme": "https" if place.secure else "http",
        ":path": request.path,
        ":authority": place.authority,
        "content-type": "application/grpc",
        "te": "trailers",
        **request.headers,
    }
    if place.api_key is not None:
        told["authorization"] = f"Bearer {place.api_key}"
    block = b"".join(_literal(name) + _literal(value, b"") for name, value in told.items())
    return GrpcMessage(block, b"\0" + len(request.body).to_bytes(4, "big") + request.body)


def _literal(text: str, sign: bytes = b"\0") -> bytes:
    """A header's name or value as HPACK writes it when it is in no table."""
    body, length = text.encode(), b""
    if len(body) < 127:
        return sign + bytes([len(body)]) + body
    rest = len(body) - 127
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return sign + b"\x7f" + length + bytes([rest]) + body


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return b"".join(
        (len(body).to_bytes(3, "big"), bytes((kind, flags)), stream.to_bytes(4, "big"), body)
    )


class _Stream:
    """A call under way: how much of it may still be sent, and what has come."""

    __slots__ = ("call", "parts", "size", "window")

    def __init__(self, call: Call, window: int) -> None:
        self.call = call
        self.window = window
        self.parts: list[bytes] = []
        self.size = 0


class GrpcLink(asyncio.Protocol):
    """One connection with at most `streams` calls under way."""

    def __init__(self, driver: Driver, messages: Sequence[GrpcMessage], streams: int) -> None:
        self.last_used = 0.0
        self.is_open = True
        self._driver = driver
        self._messages = messages
        self._most = streams
        self._streams: dict[int, _Stream] = {}
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._next, self._window, self._stream_window = 1, _WINDOW_NOW, _WINDOW_NOW
        self._frame_bytes, self._taken = 16_384, 0
        self._rest, self._block = b"", b""
        self._ending = False
        self._good = b""  # how this server writes `grpc-status: 0`
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        settings = ((1, 0), (2, 0), (4, _HUGE))  # no table of headers, no pushes, windows
        told = b"".join(
            key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings
        )
        more = (_HUGE - _WINDOW_NOW).to_bytes(4, "big")
        self._transport.write(_PREFACE + frame(_SETTINGS, 0, 0, told) + frame(_WINDOW, 0, 0, more))
        self._driver.made(self)

    def send(self, number: int, call: Call) -> None:
        """Send the request of that number."""
        headers, data = self._messages[number % len(self._messages)]
        self.last_used = call.sent
        at, self._next = self._next, self._next + 2
        stream = self._streams[at] = _Stream(call, self._stream_window)
        opened = frame(_HEADERS, _END_HEADERS, at, headers)
        size = len(data)
        if not self._waiting and size <= min(self._window, stream.window, self._frame_bytes):
            self._window -= size
            stream.window -= size
            self._transport.write(opened + frame(_DATA, _END_STREAM, at, data))
        else:
            self._transport.write(opened)
            self._waiting.append((at, data))
            self._send_waiting()

    def _send_waiting(self) -> None:
        """Send on, as far as the windows allow: first come, first served."""
        while self._waiting:
            at, data = self._waiting[0]
            stream = self._streams.get(at)
            if stream is None:  # it has ended meanwhile
                self._waiting.popleft()
                continue
            size = min(len(data), self._window, stream.window, self._frame_bytes)
            if size <= 0:
                return
            last = size == len(data)
            self._transport.write(frame(_DATA, _END_STREAM if last else 0, at, data[:size]))
            self._window -= size
            stream.window -= size
            if last:
                self._waiting.popleft()
            else:
                self._waiting[0] = (at, data[size:])

    @property
    def is_idle(self) -> bool:
        return not self._streams

    def data_received(self, data: bytes) -> None:
        """Take a piece of what comes: frames, and the beginning of one."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if end - at - 9 < size:
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & _HUGE
            self._take(data[at + 3], data[at + 4], stream, data[at + 9 : at + 9 + size])
            at += 9 + size
        self._rest = data[at:]
        if self._rest.startswith(b"HTTP/1"):
            self._transport.abort()

    def _take(self, kind: int, flags: int, at: int, body: bytes) -> None:
        if kind == _DATA:
            self._take_data(flags, at, body)
        elif kind in (_HEADERS, _MORE):
            if kind == _HEADERS:
                self._ending = bool(flags & _END_STREAM)
                body = _unpadded(body, flags)[5 if flags & _PRIORITY else 0 :]
            self._block += body
            if flags & _END_HEADERS:
                block, self._block = self._block, b""
                if self._ending:
                    self._end(at, block)
        elif kind == _SETTINGS:
            self._take_settings(flags, body)
        elif kind == _WINDOW:
            self._widen(at, int.from_bytes(body, "big") & _HUGE)
        elif kind == _PING and not flags & _ACK:
            self._transport.write(frame(_PING, _ACK, 0, body))
        elif kind == _RST:
            self._drop(at, f"the stream was reset (HTTP/2 error {int.from_bytes(body, 'big')})")
        elif kind == _GOAWAY:
            self._leave(int.from_bytes(body[:4], "big") & _HUGE)

    def _take_data(self, flags: int, at: int, body: bytes) -> None:
        self._taken += len(body)
        if self._taken > _REFILL:
            self._transport.write(frame(_WINDOW, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0
        stream = self._streams.get(at)
        if stream is not None:
            part = _unpadded(body, flags)
            stream.parts.append(part)
            stream.size += len(part)
            if flags & _END_STREAM:
                self._drop(at, "the answer ended without a status")

    def _take_settings(self, flags: int, body: bytes) -> None:
        if flags & _ACK:  # from here on, the server writes as it was told
            for _ in range(self._most):
                self._driver.free(self)
            return
        for place in range(0, len(body), 6):
            key = int.from_bytes(body[place : place + 2], "big")
            value = int.from_bytes(body[place + 2 : place + 6], "big")
            if key == 3:
                self._most = min(self._most, value)
            elif key == 4:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif key == 5:
                self._frame_bytes = value
        self._transport.write(frame(_SETTINGS, _ACK, 0))
        self._send_waiting()

    def _widen(self, at: int, size: int) -> None:
        if at == 0:
            self._window += size
        elif (stream := self._streams.get(at)) is not None:
            stream.window += size
        self._send_waiting()

    def _end(self, at: int, block: bytes) -> None:
        """The trailers are there."""
        stream = self._streams.pop(at, None)
        if stream is None:
            return
        good = self._good
        status = "" if good and good in _fields(block) else self._read_status(block)
        driver = self._driver
        if status:
            driver.failed(stream.call, status)
        elif stream.size < 5 or stream.size != 5 + _told_size(stream.parts):
            driver.failed(stream.call, "a message that is not whole")
        else:
            driver.answered(stream.call, stream.size - 5)
            if driver.wants_sample:
                driver.sample(b"", b"".join(stream.parts)[5:])
        self._freed()

    def _read_status(self, block: bytes) -> str:
        """What trailers say, in words; nothing when all is well, which is remembered."""
        told = _decoded(block)
        code = told.get("grpc-status", "none")
        if code != "0":
            words = unquote(told.get("grpc-message", ""))
            return f"gRPC status {code}: {words or told.get(':status', '')}"
        for part in _fields(block):
            if _decoded(part).get("grpc-status") == "0":
                self._good = part
        return ""

    def _freed(self) -> None:
        if self.is_open:
            self._driver.free(self)
        elif not self._streams:
            self._transport.close()

    def _drop(self, at: int, why: str) -> None:
        """A call fails, and the others go on."""
        stream = self._streams.pop(at, None)
        if stream is not None:
            self._driver.failed(stream.call, why)
            self._freed()

    def _leave(self, last: int) -> None:
        """The server ends the connection; what it took it answers."""
        self.is_open = False
        for at in [at for at in self._streams if at > last]:
            self._driver.failed(self._streams.pop(at).call, "the server is leaving")
        if not self._streams:
            self._transport.close()

    def give_up(self, before: float) -> None:
        """Fail the calls that were sent before then."""
        for at in [at for at, stream in self._streams.items() if stream.call.sent < before]:
            self._transport.write(frame(_RST, 0, at, (8).to_bytes(4, "big")))
            self._drop(at, SILENT)

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Say so, once more than the calls that it took along."""
        self.is_open = False
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._driver.failed(stream.call, GONE)
        self._driver.lost(self, str(error or "closed"))


def _unpadded(body: bytes, flags: int) -> bytes:
    return body[1 : len(body) - body[0]] if flags & _PADDED else body


def _told_size(parts: Sequence[bytes]) -> int:
    head = parts[0] if len(parts[0]) >= 5 else b"".join(parts)
    return int.from_bytes(head[1:5], "big")


def _fields(block: bytes) -> list[bytes]:
    """The headers in a block, each as it is written; none when one is written in a rare way.

    To read them all would cost more than all the rest of a call: texts are Huffman-coded, and each
    call's trailers have an id of its own.
    """
    parts, at, end = [], 0, len(block)
    while at < end:
        first, start = block[at], at
        at += 1
        if first < 0x80:  # a literal; else one byte stands for the whole header
            texts = 1 if first & (0x3F if first & 0x40 else 0x0F) else 2
            for _ in range(texts):
                size = block[at] & 0x7F if at < end else 0x7F
                if size == 0x7F or first & 0xE0 == 0x20:
                    return []
                at += 1 + size
        parts.append(block[start:at])
    return parts


def _decoded(block: bytes) -> dict[str, str]:
    try:
        from hpack import Decoder, HPACKDecodingError
    except ImportError as error:
        raise MissingExtra("gRPC needs hpack: pip install 'foretell[loadtest]'") from error
    try:
        return dict(cast("list[tuple[str, str]]", Decoder().decode(block)))
    except HPACKDecodingError:
        return {}  # no status can be found in it
