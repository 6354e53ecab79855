"""The echo is a server that answers with what it was sent: what carrying the bytes costs.

A bare ASGI application on the server that Foretell runs on, with the same settings, over
HTTP/1.1 and over gRPC. PORT names where it listens.
"""

import os
from typing import Any

import h2corn

_PLAIN = [(b"content-type", b"application/octet-stream")]
_CALL = [(b"content-type", b"application/grpc")]
_OK = [(b"grpc-status", b"0")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer one request, or the server's start and stop."""
    if scope["type"] == "lifespan":
        while (kind := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{kind}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    parts, more = [], True
    while more:
        event = await receive()
        parts.append(event.get("body", b""))
        more = event.get("more_body", False)
    body = b"".join(parts)
    called = (b"content-type", b"application/grpc") in scope["headers"]
    headers = _CALL if called else [*_PLAIN, (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    await send({**start, "trailers": True} if called else start)
    await send({"type": "http.response.body", "body": body})
    if called:
        await send({"type": "http.response.trailers", "headers": _OK})


if __name__ == "__main__":
    config = h2corn.Config(
        bind=(f"127.0.0.1:{os.environ['PORT']}",),
        workers=1,
        access_log=False,
        max_request_body_size=0,
        grpc=True,
    )
    h2corn.serve(app, config)
