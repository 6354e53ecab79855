"""Lines are NDJSON as a stream without an end: rows come in, answers go out, at the same time.

Rules:

1. A row is asked for as soon as its line is there; what comes together runs together. Answers
   go out in the order of the rows, each as soon as those before it have gone.
2. A line that is wrong, or fails, has its failure for an answer, with `row`; the stream goes on.
   `row` counts the lines that are not blank, from 0: it is the line of the answer, too.
3. Only so many rows are under way, and only so many bytes wait for the client: while it does
   not read, nothing more is read of it. A body whose length is declared, and within the limit,
   is read on all the same: clients that send all of it before they read are many.
4. When the client leaves, everything under way is cancelled.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.core.call import Call, Target
from foretell.engine.dataplane import DataPlane
from foretell.engine.streaming import in_order
from foretell.errors import ForetellError, TooLarge
from foretell.transports.asgi.bodies import UNCOUNTED_BYTES, Held
from foretell.transports.asgi.caching import call_of
from foretell.transports.asgi.exchange import ClientGone, Told, headers_of, request_id_of
from foretell.transports.rest.exchange import deadline_of, failed, whole

MOST_LINE_BYTES = 2**20
_MOST_UNSENT_BYTES = 2**16
_CHUNK_BYTES = 2**16
_log = logging.getLogger("foretell.rest")

Chunks = asyncio.Queue[bytes | None]
Line = tuple[int, bytes | None]
"""A row's number and its text; None when it is too long."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Whom the rows of a stream are for, and on what terms."""

    dataplane: DataPlane
    target: Target
    codec: JsonRows
    max_body_bytes: int
    verbose: bool
    asked: tuple[str, str] | None = None

    @property
    def max_line_bytes(self) -> int:
        return min(MOST_LINE_BYTES, self.max_body_bytes)


async def answer_lines(
    stream: Stream, content_type: bytes, scope: Scope, receive: Receive, send: Send, held: Held
) -> None:
    """Answer a request of lines; what is read of it before it is asked for is held.

    Raises InvalidInput, TooLarge, Overloaded, HttpRefusal and ClientGone.
    """
    told = headers_of(scope)
    request_id = request_id_of(told)
    timeout_s = deadline_of(told, 0.0)
    packed = b"content-encoding" in told
    short = _is_short(told, stream.max_body_bytes)
    chunks: Chunks = asyncio.Queue(0 if packed or short else 1)
    if packed:
        body = await whole(told, receive, stream.max_body_bytes, held)
        for start in range(0, len(body), _CHUNK_BYTES):
            chunks.put_nowait(body[start : start + _CHUNK_BYTES])
        chunks.put_nowait(None)
    elif short and (declared := int(told[b"content-length"])) > UNCOUNTED_BYTES:
        held.add(declared)
    version = stream.dataplane.fleet.resolve(stream.target).version
    headers = [
        (b"content-type", content_type),
        (b"x-request-id", request_id.encode()),
        (b"x-model-version", version.encode()),
        (b"cache-control", b"no-transform"),
        (b"x-accel-buffering", b"no"),  # nginx would keep the first answers to itself
    ]
    send = _sending(send)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    call = call_of(told, request_id, None)
    exchange = _Exchange(stream, call, timeout_s, chunks, _Unsent(send))
    try:
        await exchange.run(receive, more=not packed)
    except* ClientGone:
        pass  # whatever was under way for it has been cancelled
    except* Exception:  # noqa: BLE001 - the reply has begun, it can tell of nothing any more
        # That it does not end tells the client that it is not whole.
        _log.exception("request %s failed in the middle of its lines", request_id)


def _sending(send: Send) -> Send:
    """`send`, raising ClientGone for whatever a server raises when the client has left."""

    async def sending(message: Message) -> None:
        try:
            await send(message)
        except Exception as error:
            raise ClientGone from error

    return sending


def _is_short(told: Told, max_body_bytes: int) -> bool:
    """Whether the body's length is declared, and within the limit."""
    declared = told.get(b"content-length", b"")
    short = declared.isdigit() and len(declared) <= len(str(max_body_bytes))
    return short and int(declared) <= max_body_bytes


class _Exchange:
    """One stream: a task reads, one answers, one sends; the first that fails ends them all."""

    def __init__(
        self,
        stream: Stream,
        call: Call,
        timeout_s: float | None,
        chunks: Chunks,
        unsent: "_Unsent",
    ) -> None:
        self._stream = stream
        self._call = call
        self._timeout_s = timeout_s
        self._chunks = chunks
        self._unsent = unsent

    async def run(self, receive: Receive, *, more: bool) -> None:
        """Until all is answered; `more` of the body is to come. Raises ClientGone in a group."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(receive, more))
            tasks.create_task(self._unsent.send_all())
            await self._answer()
            self._unsent.end()
            await self._unsent.sent()
            reading.cancel()

    async def _read(self, receive: Receive, more: bool) -> None:
        """The rest of the request's body, and then whether the client leaves."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if more:
                await self._chunks.put(message.get("body", b""))
                more = message.get("more_body", False)
                if not more:
                    await self._chunks.put(None)

    async def _answer(self) -> None:
        async with aclosing(in_order(self._lines(), self._ask)) as answers:
            async for answer in answers:
                await self._unsent.add(answer.result())

    async def _lines(self) -> AsyncIterator[Line]:
        """The lines that are not blank; of one that is too long, no more than that is kept."""
        most, number = self._stream.max_line_bytes, 0
        begun, too_long = bytearray(), False  # which grows in place, however small the chunks are
        while (chunk := await self._chunks.get()) is not None:
            await asyncio.sleep(0)  # others have their turn, even if all lines are blank
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                line = bytes(begun) + piece
                begun.clear()
                too_long = too_long or len(line) > most
                if too_long or line.strip():
                    yield number, None if too_long else line
                    number += 1
                too_long = False
            begun += rest
            if len(begun) > most:
                begun.clear()
                too_long = True
        if too_long or begun.strip():
            yield number, None if too_long else bytes(begun)

    async def _ask(self, told: Line) -> bytes:
        """The answer to a line: a prediction, or what is wrong with it."""
        number, line = told
        stream, call = self._stream, self._call
        try:
            if self._timeout_s is not None:
                deadline = time.monotonic() + self._timeout_s
                call = Call(call.request_id, deadline, call.traceparent, call.cache)
            codec = stream.codec
            row = codec.decode_row(_refuse_none(line, stream.max_line_bytes))
            asked = stream.dataplane.infer(
                stream.target, Batch(codec.signature.inputs, 1, (row,)), call
            )
            answer = await asked
            model = answer.model if stream.verbose else None
            return codec.encode_row(answer.outputs, answer.version, model=model)
        except Exception as error:  # noqa: BLE001 - whatever broke, the next line has its turn
            if isinstance(error, ForetellError):
                error.row = number
            body: bytes = failed(error, call.request_id, call.traceparent, stream.asked)[1]["body"]
            return body


def _refuse_none(line: bytes | None, most: int) -> bytes:
    if line is None:
        raise TooLarge(f"the line is longer than {most} bytes")
    return line


class _Unsent:
    """Answers on their way out: what is ready leaves together, and never much waits."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lines: list[bytes] = []
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._all_sent = asyncio.Event()

    async def add(self, line: bytes) -> None:
        """Send `line` soon; waits while the client does not read."""
        self._lines += (line, b"\n")
        self._size += len(line) + 1
        self._changed.set()
        if self._size >= _MOST_UNSENT_BYTES:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._changed.set()

    async def sent(self) -> None:
        """Until all has been sent."""
        await self._all_sent.wait()

    async def send_all(self) -> None:
        """Send whatever comes until the end."""
        more: Any = True
        while more:
            await self._changed.wait()
            self._changed.clear()
            body, more = b"".join(self._lines), not self._ended
            self._lines.clear()
            self._size = 0
            self._room.set()
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._all_sent.set()
