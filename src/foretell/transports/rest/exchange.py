"""An exchange is one HTTP request and its reply, as the hot routes see it: raw ASGI."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from starlette.types import Message, Receive

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
Told = dict[bytes, bytes]
"""A request's headers by name; of several with one name, the last."""


class _Ids:
    """Where the ids of this process begin; a forked worker begins elsewhere."""

    prefix: str
    numbers: Iterator[int]

    @classmethod
    def begin(cls) -> None:
        cls.prefix, cls.numbers = os.urandom(6).hex(), itertools.count(1)


_Ids.begin()
os.register_at_fork(after_in_child=_Ids.begin)


def new_request_id() -> str:
    """An id no other request has: random for the process, counted within it."""
    return f"{_Ids.prefix}-{next(_Ids.numbers)}"


def request_id_of(told: Told) -> str:
    """The caller's own `X-Request-Id` if it has a usable one, else a new one."""
    own = told.get(b"x-request-id")
    return accepted_request_id(own) if own else new_request_id()


def accepted_request_id(told: bytes) -> str:
    """The caller's own `X-Request-Id` if it is usable in headers and logs, else a new one."""
    text = told.decode("latin-1")
    if 0 < len(text) <= 128 and text.isascii() and text.isprintable():
        return text
    return new_request_id()


def deadline_of(told: Told, now: float) -> float | None:
    """`X-Request-Timeout-Ms` from `now` on, on the same clock. Raises InvalidInput."""
    sent = told.get(b"x-request-timeout-ms")
    if sent is None:
        return None
    text = sent.decode("latin-1")
    digits = text.isdecimal() and len(text) <= _MOST_DIGITS
    if not digits or not 0 < int(text) <= _MOST_TIMEOUT_MS:
        raise InvalidInput(
            f"X-Request-Timeout-Ms is {text[:40]!r}, but must be a whole number of "
            f"milliseconds from 1 to {_MOST_TIMEOUT_MS}"
        )
    return now + int(text) / 1000


def refuse_what_is_not_json(told: Told) -> None:
    """Raise HttpRefusal (415) for a media type or an encoding these routes don't read."""
    kind = told.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind not in _READ_AS_JSON and not kind.endswith(b"+json"):
        raise HttpRefusal(
            415,
            f"the Content-Type is {kind.decode('latin-1')}, but this route reads JSON; "
            "send application/json",
        )
    encoding = told.get(b"content-encoding")
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
        (b"x-request-id", request_id.encode()),
    ]
    if headers:
        pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    return (
        {"type": "http.response.start", "status": status, "headers": pairs},
        {"type": "http.response.body", "body": body},
    )
