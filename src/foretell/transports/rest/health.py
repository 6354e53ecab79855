"""The information routes: health, the models and their signatures, and the front page."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute

from foretell.core.call import Target
from foretell.engine.catalogue import Catalogue
from foretell.engine.dataplane import DataPlane
from foretell.engine.fleet import Loaded
from foretell.errors import NotReady
from foretell.transports.rest.page import PAGE_HEADERS, render

_LOAD_RETRY_S = 1.0


def refuse_unready(catalogue: Catalogue, target: Target | None = None) -> None:
    """Raise NotReady unless `target`, or every model, is in service. Raises NotFound."""
    if catalogue.notice.stopping:
        raise NotReady("the server is stopping; send this elsewhere", retry_after_s=_LOAD_RETRY_S)
    if target is None and not catalogue.ready:
        out = [one.name for one in catalogue.index() if one.state != "READY"]
        told = f"model {out[0]!r} was unloaded" if out else "no model is loaded yet"
        raise NotReady(told, retry_after_s=_LOAD_RETRY_S)
    if target is not None and not catalogue.is_ready(target):
        raise NotReady(f"model {target.model!r} was unloaded", retry_after_s=_LOAD_RETRY_S)


def with_heads(router: APIRouter) -> APIRouter:
    """The router, whose GET routes answer HEAD, too; the server leaves the body out."""
    for route in [*router.routes]:
        if isinstance(route, APIRoute) and route.methods == {"GET"}:
            router.add_api_route(
                route.path.removeprefix(router.prefix),
                route.endpoint,
                methods=["HEAD"],
                response_class=route.response_class,
                include_in_schema=False,
            )
    return router


def routes(dataplane: DataPlane, catalogue: Catalogue) -> APIRouter:
    """A router over what `dataplane` has loaded."""
    router = APIRouter()
    fleet = dataplane.fleet

    @router.get("/health", tags=["health"])
    async def health() -> dict[str, Any]:
        """Whether the server is up, and has a model."""
        return {"status": "healthy", "model_loaded": bool(fleet.models)}

    @router.get("/health/live", tags=["health"])
    async def live() -> dict[str, bool]:
        """Whether the process answers at all (a liveness probe)."""
        return {"live": True}

    @router.get("/health/ready", tags=["health"])
    async def ready() -> dict[str, bool]:
        """Whether requests should be sent here: all models are in service (a readiness probe)."""
        refuse_unready(catalogue)
        return {"ready": True}

    @router.get("/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """The models served here, and their versions, newest first."""
        return {
            "default_model": fleet.default_model,
            "models": [
                {"name": name, "versions": list(versions)}
                for name, versions in fleet.models.items()
            ],
        }

    @router.get("/models/{name}", tags=["models"])
    async def model(name: str) -> dict[str, Any]:
        """One model: its versions with their signatures, and an example to send."""
        routed = fleet.resolve(Target(name))
        return {
            "name": name,
            "default": name == fleet.default_model,
            "version": routed.version,
            "versions": [_version(loaded) for loaded in fleet.models[name].values()],
            "example": example(routed),
        }

    @router.get("/", include_in_schema=False)
    async def front_page(request: Request) -> Response:
        # What KServe's client asks for on the V1 protocol; browsers always name text/html.
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"status": "alive"})
        return HTMLResponse(render(fleet, str(request.base_url)), headers=PAGE_HEADERS)

    return with_heads(router)


def _version(loaded: Loaded) -> dict[str, Any]:
    manifest = loaded.manifest
    return {
        "version": loaded.version,
        "created_at": manifest.created_at,
        "runtime": [step.runtime for step in manifest.steps],
        "signature": loaded.signature.describe(),
    }


def example(loaded: Loaded) -> dict[str, Any] | None:
    """The model's example row by name, as a body to send."""
    row = loaded.signature.example
    return None if row is None else dict(zip(loaded.signature.input_names, row, strict=True))
