"""The application is a FastAPI that users extend: what they add holds for every route."""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client.parser import text_string_to_metric_families

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


@pytest.mark.anyio
@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind middleware"])
async def test_every_reply_is_counted_once_whoever_makes_it(app: RestApp, behind: bool) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise ValueError

    if behind:

        @app.middleware("http")
        async def passing(
            request: Request, call_next: Callable[[Request], Awaitable[Response]]
        ) -> Response:
            return await call_next(request)

    outer = FastAPI()
    outer.mount("/ml", app)
    async with client_of(app) as client, client_of(outer) as mounted:
        for method, path, status in (
            ("POST", "/predict", 200),
            ("GET", "/predict", 405),
            ("POST", "/models/nobody/predict", 404),
            ("POST", "/v2/models/churn/infer", 400),
            ("POST", "/prediction.PredictionService/Predict", 415),
            ("GET", "/docs", 200),
            ("GET", "/nowhere", 404),
            ("GET", "/broken", 500),
        ):
            reply = await client.request(method, path, json=ROW)
            assert (path, reply.status_code) == (path, status)
        assert (await mounted.post("/ml/predict", json=ROW)).status_code == 200
        told = replies(await client.get("/metrics"))
    assert told == {
        ("rest", "200"): 3,
        ("rest", "400"): 1,
        ("rest", "404"): 2,
        ("rest", "405"): 1,
        ("rest", "500"): 1,
        ("grpc", "UNKNOWN"): 1,
    }


@pytest.mark.anyio
async def test_metrics_can_be_left_out(repository: Path) -> None:
    app = create_app(repository / "churn" / "1.0.0", settings=Settings(metrics=False))
    async with client_of(app) as client:
        assert (await client.get("/metrics")).status_code == 404
        assert (await client.post("/predict", json=ROW)).status_code == 200


@pytest.mark.anyio
async def test_whoever_runs_the_application_has_the_metrics_in_it(repository: Path) -> None:
    """It does not listen at an address of Foretell's settings."""
    settings = Settings(metrics_bind="127.0.0.1:9000")
    app = create_app(repository / "churn" / "1.0.0", settings=settings)
    async with client_of(app) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.head("/metrics")).status_code == 200


def replies(scraped: httpx.Response) -> Counter[tuple[str, str]]:
    """The replies by door and code."""
    return Counter(
        {
            (sample.labels["door"], sample.labels["code"]): int(sample.value)
            for family in text_string_to_metric_families(scraped.text)
            for sample in family.samples
            if sample.name == "foretell_requests_total" and sample.value
        }
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
