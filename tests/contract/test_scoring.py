"""The scoring contracts: what KServe's V1, Vertex AI, MLflow and SageMaker send is answered."""

import gzip
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Originals, churn_table, plans_table
from tests.contract.test_answers import rows_of
from tests.contract.test_failures import check


@pytest.fixture
def expected(originals: Originals) -> dict[str, Any]:
    scaled = originals["scaler"].transform(churn_table(20))
    return {"predictions": originals["churn"].predict(scaled).tolist()}


@pytest.mark.parametrize(
    "path", ["/v1/models/churn:predict", "/v1/models/churn/versions/1.0.0:predict"]
)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_v1_answers_predictions_only(
    client: httpx.Client, expected: dict[str, Any], path: str, key: str
) -> None:
    rows = rows_of(churn_table(20))
    assert client.post(path, json={key: rows}).json() == expected
    assert client.post(path, json={key: [list(row.values()) for row in rows]}).json() == expected
    vertex = {key: rows, "parameters": {"confidence": 0.5}}
    assert client.post(path, json=vertex).json() == expected


def test_v1_reads_bodies_of_any_type(client: httpx.Client, expected: dict[str, Any]) -> None:
    body = httpx.Request("POST", "http://x", json={"instances": rows_of(churn_table(20))}).content
    for kind in ({}, {"content-type": "text/html"}):
        reply = client.post("/v1/models/churn:predict", content=body, headers=kind)
        assert reply.json() == expected


def test_v1_tells_of_its_models(client: httpx.Client) -> None:
    assert client.get("/v1/models").json()["models"][0] == "churn"
    assert client.get("/v1/models/churn").json() == {"name": "churn", "ready": True}
    assert client.get("/").json() == {"status": "alive"}


def test_invocations_take_every_form_of_a_table(
    client: httpx.Client, expected: dict[str, Any]
) -> None:
    table = churn_table(20)
    for body in (
        {"dataframe_split": table.to_dict(orient="split")},
        {"dataframe_records": rows_of(table), "params": {"a": 1}},
        {"inputs": table.to_dict(orient="list")},
        {"inputs": table.to_numpy().tolist()},
        {"instances": rows_of(table)},
    ):
        reply = client.post("/invocations", json=body)
        assert reply.headers["content-type"] == "application/json"
        assert reply.json() == expected, list(body)
    for text in (table.to_csv(index=False), table.to_csv(index=False, header=False)):
        for kind in ("text/csv", "text/csv; charset=utf-8"):
            reply = client.post("/invocations", content=text, headers={"content-type": kind})
            assert reply.json() == expected


def test_texts_and_missing_values(client: httpx.Client, originals: Originals) -> None:
    table = plans_table(60)
    told = client.post("/v1/models/plans:predict", json={"instances": rows_of(table)}).json()
    assert told == {"predictions": originals["plans"].predict(table).tolist()}


def test_invocations_refuse_other_types(client: httpx.Client) -> None:
    reply = client.post("/invocations", content=b"x", headers={"content-type": "image/png"})
    check(reply, 415, "unsupported_media_type", "the Content-Type is image/png")
    csv = {"content-type": "text/csv"}
    reply = client.post("/invocations", content=b"age,x\n1,2\n", headers=csv)
    check(reply, 400, "invalid_input", "there is no input 'x'", field="x")
    body = {"instances": [[35, 24, 65.5, 1572], [35, "x", 65.5, 1572]]}
    check(client.post("/invocations", json=body), 400, "invalid_input", "row 1: 'tenure'", row=1)


def test_ping_and_version(client: httpx.Client) -> None:
    assert client.get("/ping").status_code == 200
    assert client.get("/version").text == "0.1.0"


@pytest.mark.parametrize("path", ["/invocations", "/batch_predict"])
def test_a_body_in_several_gzip_parts_is_refused_not_cut(client: httpx.Client, path: str) -> None:
    lines = churn_table(4).to_csv(index=False).encode().splitlines(keepends=True)
    parts = [gzip.compress(b"".join(some)) for some in (lines[:3], lines[3:])]
    headers = {"content-type": "text/csv", "content-encoding": "gzip"}
    reply = client.post(path, content=b"".join(parts), headers=headers)
    assert reply.status_code == 400
    assert "more behind the end of the gzip data" in reply.json()["error"]
