"""The hot routes are the inference routes: a table from path to endpoint, in front of FastAPI.

Rules:

1. `/predict` and `/batch_predict` exist bare (the default model), under `/models/{name}`,
   and under `/models/{name}/versions/{version}`. Every other path is FastAPI's.
2. An endpoint is made once: its target and the codec of its signature.
3. Whatever happens, the reply has the shape of `errors.failure`.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.core.call import Call, Target
from foretell.engine.dataplane import DataPlane
from foretell.engine.fleet import Loaded
from foretell.errors import ForetellError, InvalidInput
from foretell.transports.rest.errors import HttpRefusal, failure
from foretell.transports.rest.exchange import (
    ClientGone,
    Headers,
    read_body,
    reply,
    unless_gone,
)

_log = logging.getLogger("foretell.rest")

VERBS = ("predict", "batch_predict")


@dataclass(frozen=True, slots=True)
class RestLimits:
    """What one request may bring: body bytes, and rows."""

    max_body_bytes: int = 64 * 2**20
    max_rows: int = 100_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path: whom it asks, how its bodies read and write, and whether it runs on the loop."""

    target: Target
    codec: JsonRows
    many: bool
    inline: bool


class HotRoutes:
    """An ASGI application for the inference routes of every loaded version."""

    def __init__(self, dataplane: DataPlane, limits: RestLimits) -> None:
        self._dataplane = dataplane
        self._limits = limits
        self._table: dict[str, Endpoint] = {}
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
            endpoint = Endpoint(target, codec, many=many, inline=inline)
            self._table[f"{prefix}/{verb}"] = endpoint

    def owns(self, path: str) -> bool:
        """Whether `path` is an inference route, of a model that exists or not."""
        return path in self._table or _target_of(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers.of(scope)
        request_id = headers.request_id
        status, extra = 200, None
        try:
            body = await self._answer(scope, receive, headers)
        except ClientGone:
            return
        except (ForetellError, HttpRefusal) as error:
            status, extra, body = failure(error, request_id)
        except Exception:  # noqa: BLE001 - the outermost frame: a reply is due whatever broke
            _log.exception("request %s failed", request_id)
            refusal = HttpRefusal(
                500, f"the server failed; its log has the details under request {request_id}"
            )
            status, extra, body = failure(refusal, request_id)
        await reply(send, status, body, request_id, extra)

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers) -> bytes:
        endpoint = self._find(route_path(scope))
        if scope["method"] != "POST":
            raise HttpRefusal(
                405, f"{scope['method']} is not possible here; send POST", {"allow": "POST"}
            )
        verbose = _asked_for_verbose(scope["query_string"])
        headers.refuse_what_is_not_json()
        deadline = headers.deadline(time.monotonic()) if headers.timeout_ms else None
        limits = self._limits
        body = await read_body(receive, headers.content_length, limits.max_body_bytes)
        codec = endpoint.codec
        rows = (
            codec.decode_rows(body, max_rows=limits.max_rows)
            if endpoint.many
            else [codec.decode_row(body)]
        )
        batch = Batch.from_rows(codec.signature.inputs, rows)
        call = Call(headers.request_id, deadline)
        asked = self._dataplane.infer(endpoint.target, batch, call)
        answer = await (asked if endpoint.inline else unless_gone(receive, asked))
        told: dict[str, Any] = {"model_version": answer.version}
        if verbose:
            told["model_name"] = answer.model
            if codec.signature.class_labels is not None:
                told["class_labels"] = codec.signature.class_labels
        encode = codec.encode_rows if endpoint.many else codec.encode_row
        return encode(answer.outputs, told)

    def _find(self, path: str) -> Endpoint:
        endpoint = self._table.get(path)
        if endpoint is None:
            # Says in the fleet's own words what is missing: the model, the version, a default.
            self._dataplane.fleet.resolve(_target_of(path) or Target())
            raise HttpRefusal(404, f"there is no route {path}")
        return endpoint


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
    if not query:
        return False
    told = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("verbose", "false")
    if told not in ("true", "false"):
        raise InvalidInput(f"verbose is {told!r}, but must be true or false", field="verbose")
    return told == "true"
