"""An exchange is one HTTP request and its reply, as the hot routes see it: raw ASGI."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from starlette.types import Message, Receive, Scope

from foretell.errors import InvalidInput, TooLarge
from foretell.transports.rest.errors import HttpRefusal

# What curl, form libraries and bare sockets send along with a JSON body is read as JSON, too.
_READ_AS_JSON = frozenset(
    {
        b"",
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"application/octet-stream",
        b"text/plain",
        b"text/json",
    }
)

_MOST_DIGITS = 18  # no body is that long, and int() refuses thousands of digits
_MOST_TIMEOUT_MS = 24 * 60 * 60 * 1000
_Result = TypeVar("_Result")
_numbers: Iterator[str] | None = None


def new_request_id() -> str:
    """An id no other request has: random for the process, counted within it."""
    global _numbers  # noqa: PLW0603 - made on first use: workers are forked after this import
    if _numbers is None:
        process = os.urandom(6).hex()
        _numbers = (f"{process}-{number:x}" for number in itertools.count(1))
    return next(_numbers)


def accepted_request_id(told: bytes) -> str:
    """The caller's own `X-Request-Id` if it is usable in headers and logs, else a new one."""
    text = told.decode("latin-1")
    if 0 < len(text) <= 128 and text.isascii() and text.isprintable():
        return text
    return new_request_id()


class Headers:
    """The request headers the hot routes look at."""

    __slots__ = ("content_type", "request_id", "told")

    def __init__(self, scope: Scope) -> None:
        self.told: dict[bytes, bytes] = dict(scope["headers"])
        told_id = self.told.get(b"x-request-id")
        self.request_id = accepted_request_id(told_id) if told_id else new_request_id()
        self.content_type = self.told.get(b"content-type", b"")

    @property
    def plain_json(self) -> bool:
        """Whether it is what nearly all are: JSON, not compressed, without a deadline."""
        told = self.told
        return (
            self.content_type == b"application/json"
            and b"content-encoding" not in told
            and b"x-request-timeout-ms" not in told
        )

    def deadline(self, now: float) -> float | None:
        """`X-Request-Timeout-Ms` from `now` on, on the same clock. Raises InvalidInput."""
        sent = self.told.get(b"x-request-timeout-ms")
        if sent is None:
            return None
        told = sent.decode("latin-1")
        digits = told.isdecimal() and len(told) <= _MOST_DIGITS
        if not digits or not 0 < int(told) <= _MOST_TIMEOUT_MS:
            raise InvalidInput(
                f"X-Request-Timeout-Ms is {told[:40]!r}, but must be a whole number of "
                f"milliseconds from 1 to {_MOST_TIMEOUT_MS}"
            )
        return now + int(told) / 1000

    def refuse_what_is_not_json(self) -> None:
        """Raise HttpRefusal (415) for a media type or an encoding these routes don't read."""
        if self.content_type != b"application/json":
            kind = self.content_type.partition(b";")[0].strip().lower()
            if kind not in _READ_AS_JSON and not kind.endswith(b"+json"):
                raise HttpRefusal(
                    415,
                    f"the Content-Type is {kind.decode('latin-1')}, but this route reads JSON; "
                    "send application/json",
                )
        encoding = self.told.get(b"content-encoding")
        if encoding and encoding.lower() != b"identity":
            raise HttpRefusal(
                415,
                f"the Content-Encoding is {encoding.decode('latin-1')}, but this "
                "route reads plain bodies; send it uncompressed",
            )


class ClientGone(Exception):
    """The client closed the connection before its request was read; no reply is due."""


def whole_body(message: Message, max_body_bytes: int) -> bytes | None:
    """The request body when its first message holds all of it, else None. Raises TooLarge."""
    if message.get("more_body") or message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if len(body) > max_body_bytes:
        raise _too_large(max_body_bytes)
    return body


def refuse_declared(length: bytes, max_body_bytes: int) -> None:
    """Raise TooLarge for a Content-Length over the limit; an unreadable one is the server's."""
    if length.isdigit() and (len(length) > _MOST_DIGITS or int(length) > max_body_bytes):
        raise _too_large(max_body_bytes)


async def rest_of_body(first: Message, receive: Receive, max_body_bytes: int) -> bytes:
    """The request body that begins with `first`. Raises TooLarge early, and ClientGone."""
    message, chunks, size = first, [], 0
    while message["type"] != "http.disconnect":
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > max_body_bytes:
            raise _too_large(max_body_bytes)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    raise ClientGone


def _too_large(max_body_bytes: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {max_body_bytes} bytes; send fewer rows, "
        "or raise the server's max_body_bytes"
    )


async def unless_gone(receive: Receive, work: Awaitable[_Result]) -> _Result:
    """What `work` returns; when the client leaves first, it is cancelled. Raises ClientGone.

    The request's body must have been read: only a disconnect can follow.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        leaving.cancel()
        working.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def reply(
    status: int, body: bytes, request_id: str, headers: dict[str, str] | None = None
) -> tuple[Message, Message]:
    """A JSON reply, as the two messages to send."""
    pairs = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode("latin-1")),
    ]
    if headers:
        pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    return (
        {"type": "http.response.start", "status": status, "headers": pairs},
        {"type": "http.response.body", "body": body},
    )
