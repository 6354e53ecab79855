"""An HTTP link speaks HTTP/1.1 over one kept connection, a request at a time.

Of a reply it reads what is needed: the status, how long the body is, whether the connection stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from foretell.client.calling import Request
from foretell.loadtest.sending.links import GONE, SILENT, Call, Driver, Place

_OK = b"200"
_MOST_SHOWN = 160


def written(request: Request, place: Place) -> bytes:
    """A whole request, as it goes over the connection."""
    lines = [f"{request.method} {place.path}{request.path} HTTP/1.1", f"host: {place.authority}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if place.api_key is not None:
        lines.append(f"authorization: Bearer {place.api_key}")
    lines.append(f"content-length: {len(request.body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body


class HttpLink(asyncio.Protocol):
    """One connection; free again when the whole reply is there."""

    def __init__(self, driver: Driver, messages: Sequence[bytes], begins: bytes) -> None:
        self.last_used = 0.0
        self.is_open = True
        self._driver = driver
        self._messages = messages
        self._begins = begins
        self._call: Call | None = None
        self._parts: list[bytes] = []
        self._missing: int | None = None
        self._head = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._driver.made(self)
        self._driver.free(self)

    def send(self, number: int, call: Call) -> None:
        """Send the request of that number."""
        self._call = call
        self.last_used = call.sent
        self._transport.write(self._messages[number % len(self._messages)])

    @property
    def is_idle(self) -> bool:
        return self._call is None

    def data_received(self, data: bytes) -> None:
        """Take a piece of a reply; the last one ends it."""
        if self._call is None:
            self.close()  # nothing was asked
            return
        try:
            if self._missing is not None:
                self._parts.append(data)
                self._missing -= len(data)
            elif self._head:
                self._parts = [b"".join((*self._parts, data))]
                self._read_chunks()
            else:
                self._read_head(data)
        except ValueError:
            self._fail("the answer is not HTTP")
            return
        if self._missing == 0:
            self._end()
        elif self._missing is not None and self._missing < 0:
            self._fail("the answer is longer than it says")

    def _read_head(self, data: bytes) -> None:
        if self._parts:
            data = b"".join((*self._parts, data))
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._parts = [data]
            return
        self._head = head = data[: end + 2].lower()
        self._parts = [data[end + 4 :]]
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            length = head[at + 17 : head.find(b"\r", at + 17)]
            self._missing = int(length) - len(self._parts[0])
        elif b"\r\ntransfer-encoding: chunked" in head:
            self._read_chunks()
        else:
            self._fail("the answer does not say how long it is")

    def _read_chunks(self) -> None:
        body = _unchunked(self._parts[0])
        if body is not None:
            self._parts, self._missing = [body], 0

    def _end(self) -> None:
        """The whole reply is there."""
        call, head, parts = self._call, self._head, self._parts
        assert call is not None  # noqa: S101 - for the type checker; data_received has looked
        self._call, self._head, self._parts, self._missing = None, b"", [], None
        driver = self._driver
        if head[9:12] != _OK:
            driver.failed(call, _told(head, b"".join(parts)))
        elif not parts[0].startswith(self._begins) and not b"".join(parts).startswith(self._begins):
            driver.failed(call, "a body that is no answer")
        else:
            driver.answered(call, sum(map(len, parts)))
            if driver.wants_sample:
                driver.sample(head, b"".join(parts))
        if b"\r\nconnection: close" in head:
            self.is_open = False
            self._transport.close()
        else:
            driver.free(self)

    def _fail(self, why: str) -> None:
        call, self._call = self._call, None
        if call is not None:
            self._driver.failed(call, why)
        self.close()

    def give_up(self, before: float) -> None:
        """Fail what was sent before then: the connection cannot be used for anything else."""
        if self._call is not None and self._call.sent < before:
            self._fail(SILENT)

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Say so, once more than the request that it took along."""
        self.is_open = False
        call, self._call = self._call, None
        if call is not None:
            self._driver.failed(call, GONE)
        self._driver.lost(self, str(error or "closed"))


def _told(head: bytes, body: bytes) -> str:
    """A failure in words that many of its kind share: no ids, no times."""
    status = head[9 : head.find(b"\r")].decode("latin-1").strip().upper()
    shown = body[:_MOST_SHOWN].decode("utf-8", "replace")
    _, found, rest = shown.partition('"error":"')
    return f"{status}: {rest.partition(chr(34))[0]}" if found else status


def _unchunked(data: bytes) -> bytes | None:
    """The body in chunks that are all there; None while some are missing. Raises ValueError."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts) if data.find(b"\r\n\r\n", end) >= 0 else None
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
        if at > len(data):
            return None
