"""What every hot route does alike: headers and body in, a reply or a failure out."""

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.types import Message, Receive, Scope, Send

from foretell.errors import ForetellError, InvalidInput
from foretell.transports.asgi.bodies import UNCOUNTED_BYTES, Held
from foretell.transports.asgi.exchange import (
    AT_ONCE_BYTES,
    ClientGone,
    Told,
    headers_of,
    refuse_declared,
    request_id_of,
    rest_of_body,
    too_large,
)
from foretell.transports.asgi.failing import Failures, trace_fields
from foretell.transports.rest.errors import HttpRefusal, failure

_log = logging.getLogger("foretell.rest")
_failures = Failures(_log)

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

_MOST_DIGITS = 18  # int() refuses thousands of digits
_MOST_TIMEOUT_MS = 24 * 60 * 60 * 1000


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


def media_type(told: bytes) -> bytes:
    """The media type of a Content-Type, without parameters, in small letters."""
    return told.partition(b";")[0].strip().lower()


def is_read_as_json(kind: bytes) -> bool:
    """Whether a body of this media type is JSON, or may be taken for it."""
    return kind in _READ_AS_JSON or kind.endswith(b"+json")


async def whole(told: Told, receive: Receive, max_body_bytes: int, held: Held) -> bytes:
    """A request's body, decompressed, all of it held.

    Raises TooLarge, Overloaded, ClientGone and HttpRefusal (415).
    """
    declared = told.get(b"content-length")
    if declared is not None:
        refuse_declared(declared, max_body_bytes)
    body = await rest_of_body(await receive(), receive, max_body_bytes, held)
    encoding = told.get(b"content-encoding", b"").strip().lower()
    if encoding in (b"", b"identity"):
        return body
    windows = _WINDOWS.get(encoding)
    if windows is None:
        raise HttpRefusal(
            415,
            f"the Content-Encoding is {encoding.decode('latin-1')}, but this server reads gzip, "
            "deflate and plain bodies",
        )
    for bits in windows:
        reader = zlib.decompressobj(wbits=bits)
        at_once = min(AT_ONCE_BYTES, max_body_bytes + 1)
        try:
            plain = reader.decompress(body, at_once)
            if len(plain) == at_once <= max_body_bytes and not reader.eof:
                left = max_body_bytes + 1 - at_once  # in a thread: meanwhile, others are answered
                rest = reader.unconsumed_tail
                plain += await asyncio.to_thread(reader.decompress, rest, left)
        except zlib.error:
            continue
        if len(plain) > max_body_bytes:
            raise too_large(max_body_bytes)
        if reader.eof and reader.unused_data:  # such as further members, which pigz and bgzip write
            raise InvalidInput(
                f"there is more behind the end of the {encoding.decode()} data; "
                "compress the body as one piece"
            )
        if reader.eof:
            if len(plain) > UNCOUNTED_BYTES:
                held.add(len(plain))
            return plain
    raise InvalidInput(f"the body is not readable as {encoding.decode()}")


_WINDOWS: dict[bytes, tuple[int, ...]] = {
    b"gzip": (31,),
    b"x-gzip": (31,),
    b"deflate": (15, -15),  # zlib's format, and what many send instead: the bare stream
}


class Reply(NamedTuple):
    """What is sent back, with 200 unless told otherwise."""

    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    status: int = 200


Work = Callable[[Told, str], Awaitable[Reply]]
"""What makes the reply to a request with these headers and this id."""


async def replied(
    scope: Scope, send: Send, work: Work, asked: tuple[str, str] | None = None
) -> None:
    """Send what `work` makes, or what its failure is told as, whatever happens.

    `asked` is the model and version that it asks, where there are some.
    """
    told = headers_of(scope)
    request_id = request_id_of(told)
    try:
        made = await work(told, request_id)
    except ClientGone:
        return
    except Exception as error:  # noqa: BLE001 - the outermost frame: a reply is due whatever broke
        start, rest = failed(error, request_id, told.get(b"traceparent"), asked)
    else:
        pairs = [
            (b"content-type", made.content_type),
            (b"content-length", b"%d" % len(made.body)),
            (b"x-request-id", request_id.encode()),
            *made.headers,
        ]
        start = {"type": "http.response.start", "status": made.status, "headers": pairs}
        rest = {"type": "http.response.body", "body": made.body}
    await send(start)
    await send(rest)


def failed(
    error: Exception,
    request_id: str,
    traceparent: bytes | None,
    asked: tuple[str, str] | None = None,
) -> tuple[Message, Message]:
    """The reply that tells of `error`, and a line in the log that does so, too."""
    if isinstance(error, ForetellError | HttpRefusal):
        _failures.tell(error, request_id, traceparent, asked)
    else:
        fields = {"request_id": request_id, **trace_fields(traceparent)}
        _log.error("request %s failed", request_id, exc_info=error, extra=fields)
        error = HttpRefusal(
            500, f"the server failed; its log has the details under request {request_id}"
        )
    status, headers, body = failure(error, request_id)
    return reply(status, body, request_id, headers)


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
