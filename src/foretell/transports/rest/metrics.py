"""The metrics route answers what Prometheus reads; who writes that is given."""

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from foretell.transports.rest.health import with_heads

Render = Callable[[str], tuple[bytes, str]]
"""The text in a form that an Accept header allows, and its Content-Type."""


def routes(render: Render) -> APIRouter:
    """A router over what `render` writes."""
    router = APIRouter()

    # No coroutine, so that it runs in a thread: meanwhile, others are answered.
    @router.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """What the server has counted since it was started, as Prometheus reads it."""
        body, content_type = render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return with_heads(router)
