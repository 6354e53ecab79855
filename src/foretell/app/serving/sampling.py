"""Sampling logs a share of all requests, a line each, whatever became of them."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from foretell.app.serving.leaving import Entry
from foretell.transports.asgi.failing import trace_fields

_log = logging.getLogger("foretell.requests")


def sampled(entry: Entry, share: float, draw: Callable[[], float] = random.random) -> Entry:
    """`entry`, of whose requests about this `share` is logged."""

    def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and draw() < share:
            return _logged(entry, scope, receive, send)
        return entry(scope, receive, send)

    return answer


async def _logged(entry: Entry, scope: Scope, receive: Receive, send: Send) -> None:
    began = time.perf_counter()
    fields: dict[str, Any] = {"method": scope["method"], "path": scope["path"]}
    fields |= trace_fields(dict(scope["headers"]).get(b"traceparent"))

    async def look_and_send(message: Message) -> None:
        fields.update(_told_by(message))
        await send(message)

    try:
        await entry(scope, receive, look_and_send)
    finally:
        fields["ms"] = round((time.perf_counter() - began) * 1e3, 3)
        _log.info("a request", extra=fields)


def _told_by(message: Message) -> dict[str, Any]:
    """What a message of a reply tells: HTTP's status, gRPC's, the request's id."""
    told: dict[str, Any] = {}
    if message["type"] == "http.response.start":
        told["status"] = message["status"]
    for name, value in message.get("headers", ()):
        if name == b"x-request-id":
            told["request_id"] = value.decode("latin-1")
        elif name == b"grpc-status":
            told["grpc_status"] = int(value)
    return told
