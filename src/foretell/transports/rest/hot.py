"""The hot routes are the inference routes: a table from path to endpoint, in front of FastAPI.

Rules:

1. `/predict` and `/batch_predict` exist bare (the default model), under `/models/{name}`,
   and under `/models/{name}/versions/{version}`. Every other path is FastAPI's.
2. An endpoint is made once: its target and the codec of its signature.
3. Whatever happens, the reply has the shape of `errors.failure`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.core.call import Target
from foretell.engine.dataplane import DataPlane
from foretell.engine.fleet import Loaded
from foretell.errors import InvalidInput
from foretell.transports.asgi.bodies import UNCOUNTED_BYTES, Bodies, Held
from foretell.transports.asgi.caching import cache_headers, call_of
from foretell.transports.asgi.exchange import (
    AT_ONCE_BYTES,
    ClientGone,
    headers_of,
    request_id_of,
    rest_of_body,
    unless_gone,
    whole_body,
)
from foretell.transports.rest.errors import HttpRefusal
from foretell.transports.rest.exchange import deadline_of, failed, reply, whole
from foretell.transports.rest.tables.columnar import Asked, Columnar
from foretell.transports.rest.tables.forms import JSON_WILL_DO, negotiated

VERBS = ("predict", "batch_predict")


@dataclass(frozen=True, slots=True)
class RestLimits:
    """What one request may bring: body bytes, and rows."""

    max_body_bytes: int = 64 * 2**20
    max_rows: int = 100_000


class Endpoint:
    """One path: whom it asks, and how its bodies read and write.

    `asked`: the model and version that are meant.
    `quick`: one row on the event loop, which is answered before its caller could leave.
    """

    __slots__ = ("_fields", "asked", "codec", "encode", "many", "quick", "target")

    def __init__(
        self,
        target: Target,
        codec: JsonRows,
        asked: tuple[str, str],
        *,
        many: bool,
        inline: bool,
    ) -> None:
        self.target = target
        self.asked = asked
        self.many = many
        self.quick = inline and not many
        self.codec = codec
        self._fields = codec.signature.inputs
        self.encode = codec.encode_rows if many else codec.encode_row

    def decode(self, body: bytes, max_rows: int) -> Batch:
        """The accepted rows of a request's body. Raises InvalidInput, TooLarge."""
        if self.many:
            return self.codec.decode_rows(body, max_rows=max_rows)
        return Batch(self._fields, 1, (self.codec.decode_row(body),))


class HotRoutes:
    """An ASGI application for the inference routes of every loaded version.

    `table` has one for each path.
    """

    def __init__(self, dataplane: DataPlane, limits: RestLimits, bodies: Bodies) -> None:
        self._dataplane = dataplane
        self._limits = limits
        self._bodies = bodies
        self._columnar = Columnar(
            dataplane, bodies, max_rows=limits.max_rows, max_body_bytes=limits.max_body_bytes
        )
        self._digits = len(str(limits.max_body_bytes))
        self.table: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {}
        fleet = dataplane.fleet
        for name, versions in fleet.models.items():
            for version, loaded in versions.items():
                self._add(f"/models/{name}/versions/{version}", Target(name, version), loaded)
            routed = fleet.resolve(Target(name))
            self._add(f"/models/{name}", Target(name), routed)
            if name == fleet.default_model:
                self._add("", Target(name), routed)

    def _add(self, prefix: str, target: Target, loaded: Loaded) -> None:
        codec = JsonRows(loaded.signature)
        inline = self._dataplane.runs_inline(target)
        for verb in VERBS:
            many = verb == "batch_predict"
            asked = (loaded.name, loaded.version)
            endpoint = Endpoint(target, codec, asked, many=many, inline=inline)
            self.table[f"{prefix}/{verb}"] = partial(self.answer, endpoint)

    def owns(self, scope: Scope) -> bool:
        """Whether the path is an inference route, of a model that exists or not."""
        path = route_path(scope)
        return path in self.table or _target_of(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a path that these routes own."""
        answer = self.table.get(route_path(scope)) or partial(self.answer, None)
        await answer(scope, receive, send)

    async def answer(
        self, endpoint: Endpoint | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request, whatever happens; None is a model that is not there."""
        told = headers_of(scope)
        request_id = request_id_of(told)
        held: Held | None = None
        try:
            if endpoint is None or scope["method"] != "POST":
                self._refuse(scope)
            query = scope["query_string"]
            verbose = _asked_for_verbose(query) if query else False
            deadline = None
            if (
                told.get(b"content-type") != b"application/json"
                or told.get(b"accept", b"*/*") not in JSON_WILL_DO
            ):
                forms = negotiated(told)
                if not forms.are_json:
                    asked_for = Asked(endpoint, forms, verbose)
                    await self._columnar.answer(asked_for, scope, receive, send)
                    return
            if b"x-request-timeout-ms" in told:
                deadline = deadline_of(told, time.monotonic())
            limits, declared = self._limits, told.get(b"content-length", b"")
            sent: bytes | None
            if b"content-encoding" in told or len(declared) >= self._digits:
                held = self._bodies.holding()
                sent = await whole(told, receive, limits.max_body_bytes, held)
            else:
                first = await receive()
                sent = whole_body(first, limits.max_body_bytes)
                if sent is None or len(sent) > UNCOUNTED_BYTES:
                    held = self._bodies.holding()
                    sent = await rest_of_body(first, receive, limits.max_body_bytes, held)
            if len(sent) < AT_ONCE_BYTES:
                rows = endpoint.decode(sent, limits.max_rows)
            else:
                rows = await asyncio.to_thread(endpoint.decode, sent, limits.max_rows)
            del sent  # which would stay until the slowest of clients has read its answer
            asked = self._dataplane.infer(
                endpoint.target, rows, call_of(told, request_id, deadline)
            )
            answer = await (asked if endpoint.quick else unless_gone(receive, asked))
            model = answer.model if verbose else None
            body = endpoint.encode(answer.outputs, answer.version, model=model)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the outermost frame: a reply is due whatever broke
            start, rest = failed(
                error, request_id, told.get(b"traceparent"), endpoint.asked if endpoint else None
            )
        else:
            start, rest = reply(200, body, request_id)
            start["headers"] += cache_headers(answer)
        finally:
            if held is not None:
                held.free_all()
        await send(start)
        await send(rest)

    def _refuse(self, scope: Scope) -> NoReturn:
        """Say what is missing: in the fleet's own words a model or a version, or the method."""
        path = route_path(scope)
        if path not in self.table:
            self._dataplane.fleet.resolve(_target_of(path) or Target())
            raise HttpRefusal(404, f"there is no route {path}")
        raise HttpRefusal(
            405, f"{scope['method']} is not possible here; send POST", {"allow": "POST"}
        )


def _target_of(path: str) -> Target | None:
    """The target a path of the inference routes' form names."""
    match path.split("/"):
        case ["", verb] if verb in VERBS:
            return Target()
        case ["", "models", name, verb] if verb in VERBS:
            return Target(name)
        case ["", "models", name, "versions", version, verb] if verb in VERBS:
            return Target(name, version)
    return None


def route_path(scope: Scope) -> str:
    """The path below the prefix under which the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


def _asked_for_verbose(query: bytes) -> bool:
    told = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("verbose", "false")
    if told not in ("true", "false"):
        raise InvalidInput(f"verbose is {told!r}, but must be true or false", field="verbose")
    return told == "true"
