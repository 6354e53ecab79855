"""gRPC over ASGI: one POST on HTTP/2 a call, messages behind five bytes, the status in trailers.

After "gRPC over HTTP2" (grpc/grpc, doc/PROTOCOL-HTTP2.md) and doc/compression.md.

Rules:

1. A message is `<compressed: 1 byte><length: 4 bytes, big-endian><bytes>`.
2. Every call ends with one status. A call that fails before its first message is answered by
   headers alone ("Trailers-Only").
3. `grpc-timeout` becomes the call's deadline; a client that leaves cancels what runs for it.
4. Messages are compressed with gzip or not at all; a client that sends gzip and reads it gets
   answers longer than a packet compressed. A stream's headers tell that before its answers.
5. Streams end when the server leaves (`leaving`).
6. A message is parsed when it is known that this takes no more memory than its limits allow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foretell.engine.hooks import Replied
from foretell.errors import DeadlineExceeded, ForetellError
from foretell.transports.asgi.access.gate import GRANT
from foretell.transports.asgi.bodies import UNCOUNTED_BYTES, Bodies, HeldInTurn
from foretell.transports.asgi.exchange import ClientGone, Told, headers_of
from foretell.transports.asgi.failing import Failures, trace_fields
from foretell.transports.grpc.errors import Code, GrpcRefusal, failure, too_large
from foretell.transports.grpc.gzipped import PACKET, unpacked
from foretell.transports.grpc.leaving import Leaving, Stream, Streams, left, never
from foretell.transports.grpc.overhead import LOOKED_AT_BYTES, weigh
from foretell.transports.grpc.reply import CONTENT_TYPE, FRAME, HEADS, Payload, Reply, frame, refuse
from foretell.transports.grpc.rpc import Begun, Rpc, next_of

_log = logging.getLogger("foretell.grpc")
_failures = Failures(_log)

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_TIMEOUT_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Unary:
    """A method that answers one message with one: its bytes, or all parts of them.

    `unread`: the request is handed on as bytes, too; DecodeError tells that it is none.
    `write` makes the bytes of what was awaited: `answer` needs no coroutine of its own then.
    """

    request: Any
    answer: Callable[[Any, Rpc], Awaitable[Any]]
    unread: bool = False
    write: Callable[[Any, Rpc], Payload] | None = None


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method that answers a stream of messages, which may be a single one, with a stream."""

    request: Any
    answer: Callable[[AsyncIterator[Any], Rpc], AsyncIterator[bytes]]


Methods = Mapping[str, Unary | Streaming]
"""The methods by path, as in `/prediction.PredictionService/Predict`."""


class Wire:
    """An ASGI application for native gRPC calls of `methods`; `replied` is told their status."""

    def __init__(
        self,
        methods: Methods,
        bodies: Bodies,
        *,
        max_message_bytes: int,
        max_overhead_bytes: int,
        leaving: Leaving = never,
        replied: Replied | None = None,
    ) -> None:
        self._methods = methods
        self._replied = replied
        self._streams = Streams(leaving)
        self._bodies = bodies
        self._most = max_message_bytes
        self._short = min(max_message_bytes + FRAME, PACKET)
        self._most_overhead = max_overhead_bytes
        self.table: dict[str, ASGIApp] = dict.fromkeys(methods, self)

    def owns(self, scope: Scope) -> bool:
        """Whether this request is a gRPC call, of a method that exists or not."""
        if scope["path"] in self._methods:
            return True
        return scope["http_version"] == "2" and is_grpc(dict(scope["headers"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call, whatever happens.

        A short plain message is read and answered here: a coroutine for each step would cost
        more than the steps.
        """
        told = headers_of(scope)
        rpc, reply = Rpc(told, receive, scope.get(GRANT)), Reply(send, self._replied)
        if scope["method"] != "POST" or not is_grpc(told):
            self._tell(Code.UNKNOWN)  # as gRPC's own clients understand what is sent
            await refuse(send)
            return
        try:
            method = self._methods.get(scope["path"])
            if method is None or b"grpc-timeout" in told or b"grpc-encoding" in told:
                method = self._method(scope, rpc)
                reply.compress = rpc.compresses
            if isinstance(method, Unary):
                message, timed = None, rpc.deadline is not None
                first = next_of(receive) if timed else await receive()
                events = [first]
                body = b"" if isinstance(first, Begun) else first.get("body", b"")
                if len(body) <= self._short and body.startswith(HEADS[len(body)]):
                    if not _ends(first, beside=True):  # servers deliver the end apart
                        events.append(next_of(receive) if timed else await receive())
                    if _ends(events[-1], beside=len(events) == 1):
                        message = self._read(method, body[FRAME:])
                if message is None:
                    message = await self._one_message(method, rpc, events)
                try:
                    answer = await method.answer(message, rpc)
                except DecodeError:
                    raise _malformed(method) from None
                payload = answer if method.write is None else method.write(answer, rpc)
                body = await reply.framed(payload) if reply.compress else frame(0, payload)
                for part in reply.only(body, rpc.trailers):
                    await send(part)
            else:
                await self._answer_many(method, rpc, reply)
        except ClientGone:
            self._tell(Code.CANCELLED)
        except asyncio.CancelledError:  # as some servers end it when the client leaves
            self._tell(Code.CANCELLED)
            raise
        except (ForetellError, GrpcRefusal) as error:
            rpc.log(error)
            await reply.end(failure(error, rpc.request_id))
        except Exception:  # noqa: BLE001 - the outermost frame: a status is due whatever broke
            await reply.end(failure(_broken(rpc), rpc.request_id))
        finally:
            if rpc.held is not None:
                rpc.held.free_all()

    async def refuse(
        self, error: ForetellError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """End a call that may not pass."""
        rpc = Rpc(headers_of(scope), receive)
        rpc.log(error)
        await Reply(send, self._replied).end(failure(error, rpc.request_id))

    def _tell(self, code: Code) -> None:
        if self._replied is not None:
            self._replied(code)

    def _hold(self, rpc: Rpc, size: int) -> None:
        """Hold so many bytes for a call with one message. Raises Overloaded."""
        if rpc.held is None:
            rpc.held = self._bodies.holding()
        rpc.held.add(size)

    def _method(self, scope: Scope, rpc: Rpc) -> Unary | Streaming:
        """The method that was called, once its headers are understood. Raises GrpcRefusal."""
        told = rpc.told
        timeout = told.get(b"grpc-timeout")
        if timeout is not None:
            rpc.deadline = time.monotonic() + _seconds(timeout)
        encoding = told.get(b"grpc-encoding", b"identity")
        if encoding not in (b"identity", b"gzip"):
            raise GrpcRefusal(
                Code.UNIMPLEMENTED,
                f"messages compressed with {encoding.decode('latin-1')} are not read; "
                "send gzip or identity",
            )
        method = self._methods.get(scope["path"])
        if method is None:
            raise GrpcRefusal(
                Code.UNIMPLEMENTED,
                f"there is no method {scope['path']}; reflection lists what there is",
            )
        return method

    async def _one_message(self, method: Unary, rpc: Rpc, events: list[Message | Begun]) -> Any:
        """The message of a call with one, of which `events` were read.

        Raises what `_whole` does, DeadlineExceeded, GrpcRefusal.
        """
        if rpc.deadline is None:
            head, payload = await self._whole(rpc, events)
        else:
            try:
                async with asyncio.timeout_at(_on_the_loop(rpc.deadline)):
                    head, payload = await self._whole(rpc, events)
            except TimeoutError:
                raise DeadlineExceeded("the deadline passed before the message came") from None
        if len(head) == FRAME and len(payload) == int.from_bytes(head[1:], "big"):
            if head[0]:
                payload = await self._unpacked(head[0], payload, rpc)
                if len(payload) > UNCOUNTED_BYTES:
                    self._hold(rpc, len(payload))
            if len(payload) > LOOKED_AT_BYTES:
                await weigh(payload, method.request, self._most_overhead)
            return self._read(method, payload)
        first = {"type": "http.request", "body": head + payload}
        with HeldInTurn(self._bodies) as held:
            stream = Stream(held, None)
            incoming = self._incoming(method, rpc, stream, first)
            message = await anext(incoming, None)
            if message is None or await anext(incoming, None) is not None:
                raise _not_one()
        return message

    async def _whole(self, rpc: Rpc, events: list[Message | Begun]) -> tuple[bytes, bytes]:
        """The body of a call with one message: what frames it, and the rest.

        `events` are those that were read before. Raises TooLarge, Overloaded, ClientGone.
        """
        parts: list[bytes] = []
        size, held, more = 0, 0, True
        while more:
            event = events.pop(0) if events else await rpc.receive()
            if isinstance(event, Begun):
                event = await event
            if event["type"] == "http.disconnect":
                raise ClientGone
            part = event.get("body")
            more = event.get("more_body", False)
            if part:
                parts.append(part)
                size += len(part)
                if size > PACKET:  # no need to wait for all of what is too large
                    told = int.from_bytes(parts[0][1:FRAME], "big")
                    if max(told, size - FRAME) > self._most:
                        raise too_large(max(told, size - FRAME), self._most)
                    if size - held > UNCOUNTED_BYTES:
                        self._hold(rpc, size - held)
                        held = size
        if len(parts) == 1 or size < PACKET:
            body = b"".join(parts)
            return body[:FRAME], body[FRAME:]
        head = parts[0][:FRAME]
        parts[0] = parts[0][FRAME:]  # a small part of it all, which is not copied twice
        return head, b"".join(parts)

    async def _answer_many(self, method: Streaming, rpc: Rpc, reply: Reply) -> None:
        with HeldInTurn(self._bodies) as held:
            stream = Stream(held, _on_the_loop(rpc.deadline))
            answers = method.answer(self._incoming(method, rpc, stream), rpc)
            try:
                with self._streams.opened(stream):
                    async with stream.limit:
                        async for answer in answers:
                            await reply.message(answer)
                            held.answer()
            except TimeoutError:
                if stream.is_to_end:
                    raise left() from None
                raise DeadlineExceeded("the deadline passed before the stream ended") from None
            finally:
                await _closed(answers)
        await reply.end(rpc.trailers)

    async def _incoming(
        self, method: Unary | Streaming, rpc: Rpc, stream: Stream, first: Message | None = None
    ) -> AsyncIterator[Any]:
        """The messages as they come.

        Raises GrpcRefusal, TooLarge, Overloaded, ClientGone, and NotReady when the server leaves.
        """
        kept, held = bytearray(), stream.held
        more = True
        while more:
            stream.reading = True
            event = first if first is not None else await rpc.receive()
            stream.reading, first = False, None
            if event["type"] == "http.disconnect":
                raise ClientGone
            part = event.get("body", b"")
            kept += part
            if len(kept) > UNCOUNTED_BYTES:
                held.add(len(part))
            more = event.get("more_body", False)
            while len(kept) >= FRAME:
                if stream.is_to_end:
                    raise left()
                size = int.from_bytes(kept[1:FRAME], "big")
                if size > self._most:
                    raise too_large(size, self._most)
                if len(kept) < size + FRAME:
                    break
                flag, payload = kept[0], bytes(memoryview(kept)[FRAME : size + FRAME])
                del kept[: size + FRAME]
                if flag:
                    payload = await self._unpacked(flag, payload, rpc)
                    if len(payload) > UNCOUNTED_BYTES:
                        held.add(len(payload))
                if len(payload) > LOOKED_AT_BYTES:
                    await weigh(payload, method.request, self._most_overhead)
                held.end_message()
                yield self._read(method, payload)
        if kept:
            raise _cut()

    async def _unpacked(self, flag: int, payload: bytes, rpc: Rpc) -> bytes:
        """The bytes of a message that is flagged as compressed. Raises GrpcRefusal, TooLarge."""
        if len(payload) > self._most:
            raise too_large(len(payload), self._most)
        if flag != 1 or rpc.told.get(b"grpc-encoding") != b"gzip":
            raise GrpcRefusal(
                Code.INTERNAL, "a message is flagged as compressed, but no encoding was named"
            )
        return await unpacked(payload, self._most)

    def _read(self, method: Unary | Streaming, payload: bytes) -> Any:
        if len(payload) > self._most:
            raise too_large(len(payload), self._most)
        if isinstance(method, Unary) and method.unread:
            return payload
        try:
            return method.request.FromString(payload)
        except DecodeError:
            raise _malformed(method) from None


def is_grpc(told: Told) -> bool:
    """Whether these are the headers of a native gRPC call."""
    kind = told.get(b"content-type", b"")
    if kind == CONTENT_TYPE:
        return True
    kind = kind.lower()
    return kind == CONTENT_TYPE or kind.startswith((CONTENT_TYPE + b"+", CONTENT_TYPE + b";"))


def _ends(event: Message | Begun, *, beside: bool) -> bool:
    """Whether this event ends its request; `beside`: it may bring a body, too."""
    if isinstance(event, Begun) or event["type"] != "http.request" or event.get("more_body"):
        return False
    return beside or not event.get("body")


def _seconds(timeout: bytes) -> float:
    digits, unit = timeout[:-1], _UNITS.get(timeout[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MOST_TIMEOUT_DIGITS:
        raise GrpcRefusal(
            Code.INVALID_ARGUMENT, f"grpc-timeout is {timeout[:20].decode('latin-1')!r}"
        )
    return int(digits) * unit


def _on_the_loop(deadline: float | None) -> float | None:
    """A time of the monotonic clock on the event loop's."""
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()


async def _closed(answers: AsyncIterator[bytes]) -> None:
    close = getattr(answers, "aclose", None)
    if close is not None:
        await close()


def _broken(rpc: Rpc) -> GrpcRefusal:
    """What is told of a failure of the server's own, of which the log gets the details."""
    fields = {"request_id": rpc.request_id, **trace_fields(rpc.told.get(b"traceparent"))}
    _log.exception("request %s failed", rpc.request_id, extra=fields)
    return GrpcRefusal(
        Code.INTERNAL,
        f"the server failed; its log has the details under request {rpc.request_id}",
    )


def _not_one() -> GrpcRefusal:
    return GrpcRefusal(Code.INVALID_ARGUMENT, "this method takes exactly one message")


def _malformed(method: Unary | Streaming) -> GrpcRefusal:
    name = method.request.DESCRIPTOR.full_name
    return GrpcRefusal(Code.INVALID_ARGUMENT, f"the message is not a {name}")


def _cut() -> GrpcRefusal:
    return GrpcRefusal(Code.INTERNAL, "the stream ended within a message")
