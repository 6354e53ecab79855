"""The REST application is a FastAPI with the hot routes in front of it.

Users extend it like any FastAPI. A request for a hot route skips FastAPI's machinery until
the user adds middleware; from then on it passes through that middleware like every other.
"""

import importlib.resources
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foretell.engine.catalogue import Catalogue
from foretell.engine.dataplane import DataPlane
from foretell.engine.hooks import Replied
from foretell.errors import ForetellError
from foretell.transports.asgi.access.gate import Gate
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.asgi.exchange import (
    accepted_request_id,
    headers_of,
    new_request_id,
    request_id_of,
)
from foretell.transports.asgi.failing import Failures
from foretell.transports.rest import health, metrics, openapi
from foretell.transports.rest.errors import HttpRefusal, failure
from foretell.transports.rest.exchange import failed
from foretell.transports.rest.hot import HotRoutes, RestLimits, route_path
from foretell.transports.rest.page import PAGE_HEADERS
from foretell.transports.rest.protocols import oip, oip_info, scoring

_POLICY_VIOLATION = 1008
_failures = Failures(logging.getLogger("foretell.rest"))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    if isinstance(app, RestApp):
        app.dataplane.close()


class Part(Protocol):
    """An application for some paths: `table` has one for each path that is known beforehand."""

    @property
    def table(self) -> Mapping[str, ASGIApp]:
        """The applications by path."""
        ...

    def owns(self, scope: Scope) -> bool:
        """Whether a request is this part's, also one that it will refuse."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that it owns."""
        ...


class Door(Part, Protocol):
    """The application of another door, which tells of refusals in its own words."""

    async def refuse(
        self, error: ForetellError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that may not pass."""
        ...


class RestApp(FastAPI):
    """An ASGI application that serves the data plane's models.

    `beside` are the applications of other doors, which are asked for what REST does not own;
    `bodies` is shared with them. `replied` is told the status of each reply of REST, and
    `render` writes what Prometheus reads. Once there is a `gate`, all must pass it first.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        catalogue: Catalogue,
        *,
        limits: RestLimits,
        bodies: Bodies,
        version: str,
        beside: Sequence[Door] = (),
        replied: Replied | None = None,
        render: metrics.Render | None = None,
    ) -> None:
        super().__init__(
            title="Foretell",
            version=version,
            description="Predictions of the models loaded here.",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            max_body_size=limits.max_body_bytes,
            exception_handlers=_EXCEPTION_HANDLERS,
            lifespan=_lifespan,
        )
        self.dataplane = dataplane
        self._limits = limits
        self._replied = replied
        self._beside = beside
        self.gate: Gate | None = None
        parts: list[Part] = [
            HotRoutes(dataplane, limits, bodies),
            oip.routes(dataplane, limits, bodies),
            scoring.inference_routes(dataplane, limits, bodies),
        ]
        self._table = _table_of(parts)
        self._table_beside = _table_of(beside)
        self.router.routes[:0] = map(_PartRoute, [*parts, *beside])
        self.include_router(health.routes(dataplane, catalogue))
        self.include_router(oip_info.routes(dataplane, catalogue))
        self.include_router(scoring.routes(dataplane, catalogue))
        if render is not None:
            self.include_router(metrics.routes(render))
        _add_docs(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI scope."""
        await self.entry(scope, receive, send)

    def entry(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The same for a server that takes any callable: a hot route's own coroutine."""
        if scope["type"] == "http":
            path = route_path(scope) if scope.get("root_path") else scope["path"]
            if self.gate is not None:
                try:
                    self.gate.admit(path, scope)
                except ForetellError as error:
                    return self._refuse(error, scope, receive, send)
            quick = not self.user_middleware
            if quick and (beside := self._table_beside.get(path)) is not None:
                return beside(scope, receive, send)
            answer = self._table.get(path) if quick else None
            # Other doors tell of their own replies.
            if self._replied is not None and (
                answer is not None or not any(part.owns(scope) for part in self._beside)
            ):
                send = partial(_send_telling, self._replied, send)
            if answer is not None:
                return answer(scope, receive, send)
        elif self.gate is not None and scope["type"] == "websocket":
            try:
                self.gate.admit(scope["path"], scope)
            except ForetellError:
                return send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return super().__call__(scope, receive, send)

    async def _refuse(
        self, error: ForetellError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that may not pass, as the door that it came to does."""
        for door in self._beside:
            if door.owns(scope):
                await door.refuse(error, scope, receive, send)
                return
        told = headers_of(scope)
        start, rest = failed(error, request_id_of(told), told.get(b"traceparent"))
        if self._replied is not None:
            self._replied(start["status"])
        await send(start)
        await send(rest)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document: FastAPI's own routes, and the inference routes of each model."""
        document = super().openapi()
        return openapi.with_inference_routes(document, self.dataplane.fleet, self._limits)


def _table_of(parts: Sequence[Part]) -> dict[str, ASGIApp]:
    return {path: app for part in parts for path, app in part.table.items()}


def _send_telling(replied: Replied, send: Send, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start":
        replied(message["status"])
    return send(message)


class _PartRoute(BaseRoute):
    """A part as one entry of the router: for unknown names, and behind a user's middleware."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        owned = scope["type"] == "http" and self._part.owns(scope)
        return (Match.FULL if owned else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._part(scope, receive, send)


def _add_docs(app: FastAPI) -> None:
    """`/docs` from files of an installed package: it works without internet."""
    static = str(importlib.resources.files("fastapi_offline") / "static")
    app.mount("/docs/static", StaticFiles(directory=static), name="docs-static")

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=f"{app.title}: the API",
            swagger_js_url=f"{root}/docs/static/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/static/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/static/favicon.png",
        )
        page.headers.update(PAGE_HEADERS)
        return page


def metrics_app(render: metrics.Render) -> FastAPI:
    """An application of the metrics alone, for an address of their own."""
    app = FastAPI(openapi_url=None, exception_handlers=_EXCEPTION_HANDLERS)
    app.include_router(metrics.routes(render))
    return app


def _reply(request: Request, error: ForetellError | HttpRefusal) -> Response:
    request_id = _request_id(request)
    _failures.tell(error, request_id, dict(request.headers.raw).get(b"traceparent"))
    status, headers, body = failure(error, request_id)
    headers = {**headers, "x-request-id": request_id}
    return Response(body, status, headers, media_type="application/json")


def _request_id(request: Request) -> str:
    told = request.headers.get("x-request-id")
    return accepted_request_id(told.encode("latin-1")) if told else new_request_id()


async def _on_refusal(request: Request, error: ForetellError | HttpRefusal) -> Response:
    return _reply(request, error)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = f"there is no route {request.url.path}; /docs lists what there is"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{request.method} is not possible here; send {allowed}"
    return _reply(request, HttpRefusal(error.status_code, message, dict(error.headers or {})))


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _reply(request, HttpRefusal(400, f"{place}: {first['msg']}"))


async def _on_exception(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this reply, so the server's log has its traceback.
    what = type(error).__name__
    return _reply(request, HttpRefusal(500, f"the server failed ({what}); its log has the details"))


_EXCEPTION_HANDLERS: dict[Any, Any] = {
    ForetellError: _on_refusal,
    HttpRefusal: _on_refusal,
    HTTPException: _on_http_exception,
    RequestValidationError: _on_validation_error,
    Exception: _on_exception,
}
