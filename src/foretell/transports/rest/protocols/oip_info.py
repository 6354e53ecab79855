"""What the Open Inference Protocol tells besides predictions: health, metadata, the repository.

These routes are FastAPI's; bodies are read raw, as clients send them without a Content-Type, or
send none. Extensions that are not there answer 501.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request

from foretell.codecs.tensors import shape_of
from foretell.core.call import Target
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.engine.catalogue import EXTENSIONS, NAME, Catalogue, Statistics
from foretell.engine.dataplane import DataPlane
from foretell.errors import InvalidInput, TooLarge
from foretell.transports.rest.errors import HttpRefusal
from foretell.transports.rest.health import refuse_unready, with_heads

_REST_EXTENSIONS = sorted((*EXTENSIONS, "classification"))

_ABSENT = {
    "/systemsharedmemory/{rest:path}": "shared memory",
    "/cudasharedmemory/{rest:path}": "shared memory",
    "/trace/setting": "tracing by request",
    "/models/{name}/trace/setting": "tracing by request",
    "/logging": "logging by request",
    "/models/{name}/generate": "text generation",
    "/models/{name}/generate_stream": "text generation",
    "/models/{name}/versions/{version}/generate": "text generation",
    "/models/{name}/versions/{version}/generate_stream": "text generation",
}
_MOST_BYTES = 2**20
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

Told = dict[str, Any]


def routes(dataplane: DataPlane, catalogue: Catalogue) -> APIRouter:
    """A router over what `catalogue` tells of `dataplane`."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"])
    _add_absent(router)
    _add_server(router, dataplane, catalogue)
    _add_repository(router, catalogue)
    _add_models(router, catalogue)
    return with_heads(router)


def _add_server(router: APIRouter, dataplane: DataPlane, catalogue: Catalogue) -> None:
    @router.get("")
    @router.get("/", include_in_schema=False)
    async def server() -> Told:
        """The server's name, version and extensions of the protocol."""
        return {"name": NAME, "version": catalogue.version, "extensions": _REST_EXTENSIONS}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Whether the server answers at all."""
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """Whether all models are in service."""
        refuse_unready(catalogue)
        # The protocol's text says "live" here, its clients read "ready".
        return {"live": True, "ready": True}

    @router.get("/models")
    async def models() -> dict[str, list[str]]:
        """The names of the models."""
        return {"models": list(dataplane.fleet.models)}

    @router.get("/models/stats")
    async def statistics() -> Told:
        """What every loaded version has done in this worker."""
        return {"model_stats": [_statistics(one) for one in catalogue.statistics()]}


def _add_repository(router: APIRouter, catalogue: Catalogue) -> None:
    @router.post("/repository/index")
    async def index(request: Request) -> list[dict[str, str]]:
        """Every loaded version and its state; `{"ready": true}` leaves out those unloaded."""
        only = (await _object_in(request)).get("ready", False)
        if not isinstance(only, bool):
            raise InvalidInput("'ready' must be true or false", field="ready")
        return [
            {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
            for one in catalogue.index(only_ready=only)
        ]

    @router.post("/repository/models/{name}/load", responses={403: {"description": "Not allowed"}})
    async def load(name: str, request: Request) -> Told:
        """Put a model into service again."""
        if await _parameters_in(request):
            raise HttpRefusal(
                501, "a model cannot be given another configuration or files by request"
            )
        catalogue.turn(name, on=True)
        return {"name": name, "load": True}

    @router.post(
        "/repository/models/{name}/unload", responses={403: {"description": "Not allowed"}}
    )
    async def unload(name: str, request: Request) -> Told:
        """Take a model out of service; it stays in memory, and ready to be loaded."""
        await _parameters_in(request)
        catalogue.turn(name, on=False)
        return {"name": name, "unload": True}


def _add_models(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/models/{name}")
    @router.get("/models/{name}/versions/{version}")
    async def model(name: str, version: str | None = None) -> Told:
        """A model's inputs and outputs."""
        about = catalogue.about(Target(name, version))
        return {
            "name": about.name,
            "versions": about.versions,
            "platform": about.platform,
            "inputs": [_tensor(field) for field in about.signature.inputs],
            "outputs": [_tensor(field) for field in about.signature.outputs],
        }

    @router.get("/models/{name}/ready")
    @router.get("/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> Told:
        """Whether a model is in service."""
        refuse_unready(catalogue, Target(name, version))
        return {"name": name, "ready": True}

    @router.get("/models/{name}/config")
    @router.get("/models/{name}/versions/{version}/config")
    async def config(name: str, version: str | None = None) -> Told:
        """A model as Triton's configuration tells of one."""
        about = catalogue.about(Target(name, version))
        return {
            "name": about.name,
            "platform": about.platform,
            "backend": NAME,
            "max_batch_size": about.max_batch_rows,
            "input": [_configured(field) for field in about.signature.inputs],
            "output": [_configured(field) for field in about.signature.outputs],
            "dynamic_batching": {
                "max_queue_delay_microseconds": int(about.max_wait_s * 1e6),
            },
        }

    @router.get("/models/{name}/stats")
    @router.get("/models/{name}/versions/{version}/stats")
    async def model_statistics(name: str, version: str | None = None) -> Told:
        """What a version has done in this worker; without one, the version that is asked."""
        told = catalogue.statistics(Target(name, version))
        return {"model_stats": [_statistics(one) for one in told]}


def _add_absent(router: APIRouter) -> None:
    def absent(what: str) -> Callable[[], Awaitable[None]]:
        async def refuse() -> None:
            raise HttpRefusal(501, f"this server has no {what}")

        return refuse

    for path, what in _ABSENT.items():
        router.add_api_route(path, absent(what), methods=_METHODS, include_in_schema=False)


def _tensor(field: Field) -> Told:
    return {"name": field.name, "datatype": field.datatype.value, "shape": shape_of(field)}


def _configured(field: Field) -> Told:
    kind = "STRING" if field.datatype is Datatype.BYTES else field.datatype.value
    # A scalar is one value of a row: Triton's configuration knows no empty dims.
    return {"name": field.name, "data_type": f"TYPE_{kind}", "dims": list(field.shape) or [1]}


def _statistics(told: Statistics) -> Told:
    tally = told.tally
    waited, ran = (int(seconds * 1e9) for seconds in (tally.waited_s, tally.ran_s))
    none = {"count": 0, "ns": 0}
    return {
        "name": told.name,
        "version": told.version,
        "last_inference": told.last_run_ms,
        "inference_count": tally.rows,
        "execution_count": tally.batches,
        "inference_stats": {
            "success": {"count": tally.requests - tally.failed, "ns": waited + ran},
            "fail": {"count": tally.failed, "ns": 0},
            "queue": {"count": tally.requests, "ns": waited},
            "compute_input": none,
            "compute_infer": {"count": tally.requests, "ns": ran},
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
        "memory_usage": [],
        "response_stats": {},
    }


async def _object_in(request: Request) -> Told:
    """The JSON object of a body that may be empty. Raises InvalidInput."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise TooLarge(f"the body is larger than {_MOST_BYTES} bytes, which no request here is")
    if not body.strip():
        return {}
    try:
        told = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None
    if not isinstance(told, dict):
        raise InvalidInput("the body must be empty or a JSON object")
    return told


async def _parameters_in(request: Request) -> Told:
    told = (await _object_in(request)).get("parameters")
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise InvalidInput("'parameters' must be an object", field="parameters")
    return told
