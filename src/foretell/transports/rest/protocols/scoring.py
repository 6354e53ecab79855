"""The scoring contracts: KServe V1 (and Vertex AI), MLflow and SageMaker.

| route | contract |
|---|---|
| `POST /v1/models/{m}[/versions/{v}]:predict` | KServe V1, TensorFlow Serving, Vertex AI |
| `GET /v1/models`, `GET /v1/models/{m}` | KServe V1 |
| `POST /invocations`, `GET /ping` | MLflow's scoring server, SageMaker |
| `GET /version` | MLflow's scoring server |

They answer predictions only, as those servers do; probabilities have routes of our own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from foretell.codecs.scoring import ScoringBodies
from foretell.codecs.tables.csv_tables import read_csv
from foretell.core.batch import Batch
from foretell.core.call import Target
from foretell.engine.catalogue import Catalogue
from foretell.engine.dataplane import DataPlane
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.asgi.caching import cache_headers
from foretell.transports.asgi.exchange import Told
from foretell.transports.rest.errors import HttpRefusal
from foretell.transports.rest.exchange import Reply, is_read_as_json, media_type
from foretell.transports.rest.health import refuse_unready, with_heads
from foretell.transports.rest.hot import RestLimits
from foretell.transports.rest.protocols.posted import PostedRoutes, Posting

_INVOCATIONS = "/invocations"
_VERB = ":predict"

Decode = Callable[[ScoringBodies, Told, bytes], Batch]


def inference_routes(dataplane: DataPlane, limits: RestLimits, bodies: Bodies) -> PostedRoutes:
    """The routes that ask for predictions."""
    posted = PostedRoutes(dataplane, limits, bodies, _target_of)
    fleet, most = dataplane.fleet, limits.max_rows

    def add(path: str, target: Target, decode: Decode) -> None:
        codec = ScoringBodies(fleet.resolve(target).signature)
        posted.add(path, target, partial(_predict, posted, target, codec, decode))

    def v1(codec: ScoringBodies, _: Told, body: bytes) -> Batch:
        return codec.decode_v1(body, max_rows=most)

    def invocation(codec: ScoringBodies, told: Told, body: bytes) -> Batch:
        kind = media_type(told.get(b"content-type", b""))
        if kind == b"text/csv":
            return read_csv(codec.signature, body, max_rows=most, bare=True)
        if not is_read_as_json(kind):
            raise HttpRefusal(
                415,
                f"the Content-Type is {kind.decode('latin-1')}, but this route reads "
                "application/json and text/csv",
            )
        return codec.decode_invocation(body, max_rows=most)

    for name, versions in fleet.models.items():
        add(f"/v1/models/{name}{_VERB}", Target(name), v1)
        for version in versions:
            add(f"/v1/models/{name}/versions/{version}{_VERB}", Target(name, version), v1)
    if fleet.default_model is not None:
        add(_INVOCATIONS, Target(fleet.default_model), invocation)
    return posted


async def _predict(
    posted: PostedRoutes,
    target: Target,
    codec: ScoringBodies,
    decode: Decode,
    posting: Posting,
) -> Reply:
    batch = await posted.read(posting, partial(decode, codec, posting.told))
    answer = await posted.ask(target, batch, posting)
    return Reply(codec.encode(answer.outputs), headers=cache_headers(answer))


def _target_of(path: str) -> Target | None:
    if path == _INVOCATIONS:
        return Target()
    if not path.endswith(_VERB):
        return None
    match path.removesuffix(_VERB).split("/"):
        case ["", "v1", "models", name]:
            return Target(name)
        case ["", "v1", "models", name, "versions", version]:
            return Target(name, version)
    return None


def routes(dataplane: DataPlane, catalogue: Catalogue) -> APIRouter:
    """The routes that tell of the models and of the server."""
    router = APIRouter(tags=["scoring contracts"])

    @router.get("/v1/models")
    async def models() -> dict[str, list[str]]:
        """The names of the models (KServe V1)."""
        return {"models": list(dataplane.fleet.models)}

    @router.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """Whether a model is in service (KServe V1)."""
        refuse_unready(catalogue, Target(name))
        return {"name": name, "ready": True}

    @router.get("/ping", response_class=Response)
    async def ping() -> Response:
        """Whether all models are in service (MLflow, SageMaker)."""
        refuse_unready(catalogue)
        return Response("\n", media_type="text/plain")

    @router.get("/version", response_class=Response)
    async def version() -> Response:
        """The version of Foretell, as plain text (MLflow)."""
        return Response(catalogue.version, media_type="text/plain")

    return with_heads(router)
