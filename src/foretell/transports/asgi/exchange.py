"""An exchange is one HTTP request and its reply as ASGI has them, whatever protocol is in it."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from starlette.types import Message, Receive, Scope

from foretell.errors import TooLarge
from foretell.transports.asgi.bodies import UNCOUNTED_BYTES, Held

AT_ONCE_BYTES = 2**18
"""Up to so many bytes are unpacked and read on the event loop."""
_MOST_DIGITS = 18  # no body is that long, and int() refuses thousands of digits
_LOOKED_FOR_AFTER_S = 0.02
_Result = TypeVar("_Result")

Told = dict[bytes, bytes]
"""A request's headers by name; of several with one name, the last, but all of `Cache-Control`."""


def headers_of(scope: Scope) -> Told:
    """The headers of a request."""
    headers = scope["headers"]
    told = dict(headers)
    if b"cache-control" in told and len(told) < len(headers):
        several = [value for name, value in headers if name == b"cache-control"]
        told[b"cache-control"] = b",".join(several)
    return told


class _Ids:
    """Where the ids of this process begin: made on first use, workers are forked before it."""

    prefix = ""
    numbers: Iterator[int] | None = None

    @classmethod
    def begin(cls) -> Iterator[int]:
        cls.prefix, cls.numbers = os.urandom(6).hex(), itertools.count(1)
        return cls.numbers


def new_request_id() -> str:
    """An id no other request has: random for the process, counted within it."""
    number = next(_Ids.numbers or _Ids.begin())
    return f"{_Ids.prefix}-{number}"


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


async def apart(size: int, read: Callable[[], _Result]) -> _Result:
    """What `read` makes of so many bytes; of many in a thread: meanwhile, others are answered."""
    return read() if size < AT_ONCE_BYTES else await asyncio.to_thread(read)


class ClientGone(Exception):
    """The client closed the connection before its request was read; no reply is due."""


def whole_body(message: Message, max_body_bytes: int) -> bytes | None:
    """The request body when its first message holds all of it, else None. Raises TooLarge."""
    if message.get("more_body") or message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if len(body) > max_body_bytes:
        raise too_large(max_body_bytes)
    return body


def refuse_declared(length: bytes, max_body_bytes: int) -> None:
    """Raise TooLarge for a Content-Length over the limit; an unreadable one is the server's."""
    if length.isdigit() and (len(length) > _MOST_DIGITS or int(length) > max_body_bytes):
        raise too_large(max_body_bytes)


async def rest_of_body(first: Message, receive: Receive, max_body_bytes: int, held: Held) -> bytes:
    """The request body that begins with `first`, held. Raises TooLarge, Overloaded, ClientGone."""
    message, chunks, size = first, [], 0
    while message["type"] != "http.disconnect":
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > max_body_bytes:
            raise too_large(max_body_bytes)
        more = message.get("more_body", False)
        if more or size > UNCOUNTED_BYTES:
            held.add(len(chunk))
        if not more:
            return b"".join(chunks)
        message = await receive()
    raise ClientGone


def too_large(max_body_bytes: int) -> TooLarge:
    """What is said of a body over the limit."""
    return TooLarge(
        f"the body is larger than {max_body_bytes} bytes; send fewer rows, "
        "or raise the server's max_body_bytes"
    )


async def unless_gone(receive: Receive, work: Awaitable[_Result]) -> _Result:
    """What `work` returns; when the client leaves first, it is cancelled. Raises ClientGone.

    The request's body must have been read: only a disconnect can follow. Nobody looks for that
    before `work` has taken a while: a task of its own costs as much as a quick model's answer.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine is awaited by a task, which types don't know
    watch = _Watch(receive, task)
    alarm = loop.call_later(_LOOKED_FOR_AFTER_S, watch.begin)
    asked_before = task.cancelling()
    try:
        return await work
    except asyncio.CancelledError:
        if watch.is_gone and task.uncancel() <= asked_before:
            raise ClientGone from None
        raise
    finally:
        alarm.cancel()
        watch.end()


class _Watch:
    """Cancels a task when its client leaves, from `begin` to `end`."""

    __slots__ = ("_receive", "_task", "_watching", "is_gone")

    def __init__(self, receive: Receive, task: asyncio.Task[object]) -> None:
        self._receive = receive
        self._task = task
        self._watching: asyncio.Task[None] | None = None
        self.is_gone = False

    def begin(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._task.cancel()

    def end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
