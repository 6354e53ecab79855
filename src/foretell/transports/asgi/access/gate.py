"""The gate decides who may pass: one table of what every route and every gRPC method needs.

Rules:

1. What the table does not know needs a key: a forgotten route is closed, not open.
2. A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`, over gRPC as metadata of the
   same names. Never in a path or a query, which end in logs.
3. Over REST the path names the model. Over gRPC the message does, so the services ask the grant,
   which goes along in the scope.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from starlette.types import Scope

from foretell.errors import Unauthenticated
from foretell.transports.asgi.access.grants import Grant, Need
from foretell.transports.asgi.access.rates import Rates

GRANT = "foretell.grant"
"""Where a scope has what its caller may do; absent where nothing is asked of callers."""

_OIP, _PREDICTION = "/inference.GRPCInferenceService", "/prediction.PredictionService"
_HEALTH = "/grpc.health.v1.Health"

METHODS: dict[str, Need] = {
    **{f"{_HEALTH}/{name}": Need.OPEN for name in ("Check", "Watch")},
    f"{_PREDICTION}/HealthCheck": Need.OPEN,
    f"{_PREDICTION}/Predict": Need.MODEL,
    f"{_PREDICTION}/BatchPredict": Need.MODEL,
    f"{_OIP}/ServerLive": Need.OPEN,
    f"{_OIP}/ServerReady": Need.OPEN,
    f"{_OIP}/ServerMetadata": Need.KEY,
    f"{_OIP}/RepositoryIndex": Need.KEY,
    f"{_OIP}/RepositoryModelLoad": Need.ADMIN,
    f"{_OIP}/RepositoryModelUnload": Need.ADMIN,
    f"{_OIP}/ModelInfer": Need.MODEL,
    f"{_OIP}/ModelStreamInfer": Need.MODEL,
    f"{_OIP}/ModelReady": Need.MODEL,
    f"{_OIP}/ModelMetadata": Need.MODEL,
    f"{_OIP}/ModelConfig": Need.MODEL,
    f"{_OIP}/ModelStatistics": Need.MODEL,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Need.KEY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Need.KEY,
}

_OPEN = "/health /health/live /health/ready /ping /v2/health/live /v2/health/ready /metrics"
_KEY = "/ /docs /openapi.json /models /version /v1/models /v2 /v2/ /v2/models /v2/repository/index"
_DEFAULT_MODEL = "/predict /batch_predict /invocations"

ROUTES: dict[str, Need] = {
    **dict.fromkeys(_OPEN.split(), Need.OPEN),
    **dict.fromkeys(_KEY.split(), Need.KEY),
    **dict.fromkeys(_DEFAULT_MODEL.split(), Need.MODEL),
    "/v2/models/stats": Need.EVERY_MODEL,
}

# All that lies below a name is that model's; tried in order. `.` includes line ends, which
# routers overlook at the end of a path.
FAMILIES: tuple[tuple[re.Pattern[str], Need], ...] = tuple(
    (re.compile(pattern, re.DOTALL), need)
    for pattern, need in (
        (r"/v2/repository/models/([^/]+)/.*", Need.ADMIN),
        (r"/models/([^/]+)(?:/.*)?", Need.MODEL),
        (r"/v1/models/([^/:]+)(?:[/:].*)?", Need.MODEL),
        (r"/v2/models/([^/]+)(?:/.*)?", Need.MODEL),
        (r"/docs/static/.*()", Need.KEY),
        (r"/v2/(?:systemsharedmemory|cudasharedmemory|trace|logging)(?:/.*)?()", Need.KEY),
    )
)


@lru_cache(maxsize=512)
def decided(path: str) -> tuple[Need, str | None] | None:
    """What `path` needs, and the model it names; None is not decided."""
    need = METHODS.get(path) or ROUTES.get(path)
    if need is not None:
        return need, None
    for pattern, need in FAMILIES:
        if found := pattern.fullmatch(path):
            return need, found[1] or None
    return None


class Gate:
    """Lets callers pass whom `grant_of` knows, anybody if it is None, as often as `rates` allow.

    Paths without a model ask `default_model`.
    """

    def __init__(
        self,
        grant_of: Callable[[bytes], Grant] | None,
        default_model: str | None,
        rates: Rates | None = None,
    ) -> None:
        self._grant_of = grant_of
        self._default = default_model
        self._rates = rates

    def admit(self, path: str, scope: Scope) -> None:
        """Let a request pass, with its grant. Raises Unauthenticated, Forbidden, Overloaded."""
        need, model = decided(path) or (Need.KEY, None)
        if need is Need.OPEN:
            return
        rates = self._rates
        if self._grant_of is None:
            if rates is not None:
                rates.count_stranger(scope)
            return
        try:
            grant = self._grant_of(_key_of(scope["headers"]))
        except Unauthenticated:
            if rates is not None:
                rates.count_stranger(scope)
            raise
        if rates is not None:
            rates.count(grant)
        if need is Need.MODEL and model is None and path in ROUTES:
            model = self._default
        grant.refuse(need, model)
        scope[GRANT] = grant


def _key_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The one key that was sent. Raises Unauthenticated."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, sent = value.partition(b" ")
            if scheme.lower() != b"bearer":
                raise Unauthenticated("the Authorization is not a bearer's; send Bearer KEY")
        elif name == b"x-api-key":
            sent = value
        else:
            continue
        if found is not None and found != sent:
            raise Unauthenticated("several different keys were sent; send one")
        found = sent.strip()
    if not found:
        raise Unauthenticated(
            "a key or token is needed here; send it as Authorization: Bearer KEY, or as X-API-Key"
        )
    return found
