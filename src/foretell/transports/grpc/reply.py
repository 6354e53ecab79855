"""A reply is what goes back over the wire: headers, messages behind five bytes, the status."""

from starlette.types import Message, Send

from foretell.engine.hooks import Replied
from foretell.transports.grpc.errors import Trailers
from foretell.transports.grpc.gzipped import PACKET, packed

CONTENT_TYPE = b"application/grpc"
ENCODINGS = b"identity,gzip"
Payload = bytes | list[bytes | memoryview]
FRAME = 5
"""So many bytes stand before each message."""

HEADS = tuple(b"\0" + max(n - FRAME, 0).to_bytes(4, "big") for n in range(PACKET + 1))
"""What a message that is not compressed begins with, by its length with these bytes."""

_FLAGS = (b"\0", b"\1")
_HEADERS = ((b"content-type", CONTENT_TYPE), (b"grpc-accept-encoding", ENCODINGS))
_COMPRESSED = (b"grpc-encoding", b"gzip")


class Reply:
    """What goes back: headers before the first message, then messages, then the status.

    `replied` is told that, before the client is.
    """

    __slots__ = ("_replied", "_send", "_started", "compress")

    def __init__(self, send: Send, replied: Replied | None = None) -> None:
        self._send = send
        self._replied = replied
        self._started = False
        self.compress = False

    def only(self, framed: bytes, trailers: Trailers) -> tuple[Message, Message, Message]:
        """All of the reply to a call that is answered by one message, to be sent in this order."""
        if self._replied is not None:
            self._replied(0)
        return (
            self._start(),
            {"type": "http.response.body", "body": framed},
            {"type": "http.response.trailers", "headers": trailers},
        )

    async def message(self, payload: bytes) -> None:
        """One message of several."""
        if not self._started:
            await self._send(self._start())
        body = await self.framed(payload) if self.compress else frame(0, payload)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, trailers: Trailers) -> None:
        """The status, which is all of the reply when no message went before it."""
        self._tell(trailers)
        if self._started:
            await self._send({"type": "http.response.body"})
            await self._send({"type": "http.response.trailers", "headers": trailers})
            return
        headers = [*_HEADERS, *trailers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body"})

    def _tell(self, trailers: Trailers) -> None:
        if self._replied is not None:
            self._replied(int(trailers[0][1]))  # they begin with the status

    def _start(self) -> Message:
        self._started = True
        headers = [*_HEADERS, _COMPRESSED] if self.compress else [*_HEADERS]
        return {
            "type": "http.response.start",
            "status": 200,
            "headers": headers,
            "trailers": True,
        }

    async def framed(self, payload: Payload) -> bytes:
        """A frame, compressed when it is longer than a packet."""
        if isinstance(payload, list):
            payload = b"".join(payload)
        return frame(1, await packed(payload)) if len(payload) > PACKET else frame(0, payload)


def frame(flag: int, payload: Payload) -> bytes:
    """A message behind its five bytes."""
    if isinstance(payload, list):
        size = sum(map(len, payload))
        return b"".join((_FLAGS[flag], size.to_bytes(4, "big"), *payload))
    if flag == 0 and len(payload) <= PACKET - FRAME:
        return HEADS[len(payload) + FRAME] + payload
    return b"".join((_FLAGS[flag], len(payload).to_bytes(4, "big"), payload))


async def refuse(send: Send) -> None:
    """What PROTOCOL-HTTP2 asks for when a request is not a gRPC call."""
    body = b'{"error": "this path takes native gRPC calls: POST, HTTP/2, application/grpc"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": 415, "headers": headers})
    await send({"type": "http.response.body", "body": body})
