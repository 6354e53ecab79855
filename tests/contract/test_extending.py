"""The application is a FastAPI that users extend: what they add holds for every route."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request, Response

from foretell.app.settings import Settings
from foretell.app.wiring import create_app
from foretell.transports.rest.app import RestApp

ROW = {"features": [35.0, 24, 65.5, 1572.0]}
INSTANCES = {"instances": [ROW["features"]]}
TENSOR = {
    "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW["features"]}],
}


@pytest.fixture
def app(repository: Path) -> RestApp:
    return create_app(repository / "churn" / "1.0.0", settings=Settings())


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.anyio
async def test_middleware_stands_around_the_hot_routes(app: RestApp) -> None:
    @app.middleware("http")
    async def stamp(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.headers.get("x-key") != "good":
            return Response("who are you?", 401)
        reply = await call_next(request)
        reply.headers["x-stamp"] = "seen"
        return reply

    async with client_of(app) as client:
        assert (await client.post("/predict", json=ROW)).status_code == 401
        reply = await client.post("/predict", json=ROW, headers={"x-key": "good"})
        assert (reply.status_code, reply.headers["x-stamp"]) == (200, "seen")
        bad = await client.post("/predict", json={}, headers={"x-key": "good"})
        assert (bad.status_code, bad.json()["code"]) == (400, "invalid_input")
        for path, body in (("/v2/models/churn/infer", TENSOR), ("/invocations", INSTANCES)):
            assert (await client.post(path, json=body)).status_code == 401
            reply = await client.post(path, json=body, headers={"x-key": "good"})
            assert (reply.status_code, reply.headers["x-stamp"]) == (200, "seen")


@pytest.mark.anyio
async def test_users_add_routes_and_their_failures_have_our_shape(app: RestApp) -> None:
    @app.get("/mine/{number}")
    async def mine(number: int) -> dict[str, int]:
        if number == 1:
            raise HTTPException(418, "a teapot")
        return {"half": 10 // number}

    async with client_of(app) as client:
        assert (await client.get("/mine/5")).json() == {"half": 2}
        told = {n: (await client.get(f"/mine/{n}")) for n in ("x", "1", "0")}
    assert [reply.status_code for reply in told.values()] == [400, 418, 500]
    assert "path.number" in told["x"].json()["error"]
    assert told["1"].json()["error"] == "a teapot"
    assert "ZeroDivisionError" in told["0"].json()["error"]
    assert all(reply.json()["request_id"] for reply in told.values())
    assert "/mine/{number}" in app.openapi()["paths"]


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["/ml", "/models/churn"])
async def test_it_can_be_mounted_under_a_prefix(app: RestApp, prefix: str) -> None:
    outer = FastAPI()
    outer.mount(prefix, app)
    async with client_of(outer) as client:
        reply = await client.post(f"{prefix}/predict", json=ROW)
        assert reply.status_code == 200
        assert (
            await client.post(f"{prefix}/models/churn/predict", json=ROW)
        ).json() == reply.json()
        assert (await client.get(f"{prefix}/health/ready")).status_code == 200
        assert f"{prefix}/docs/static/swagger-ui.css" in (await client.get(f"{prefix}/docs")).text
        assert (await client.get(f"{prefix}/predict")).status_code == 405
        told = await client.post(f"{prefix}/v2/models/churn/infer", json=TENSOR)
        assert told.json()["outputs"][0]["data"] == [reply.json()["prediction"]]
        assert (await client.get(f"{prefix}/v2/health/ready")).status_code == 200
        v1 = await client.post(f"{prefix}/v1/models/churn:predict", json=INSTANCES)
        assert v1.json() == {"predictions": [reply.json()["prediction"]]}
        assert (await client.post(f"{prefix}/invocations", json=INSTANCES)).json() == v1.json()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
