"""What comes back is what the original model answers, in the brief's words."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.contract.conftest import Originals, churn_table, plans_table

BRIEF_ROW = {"age": 35.0, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}


def rows_of(table: Any) -> list[dict[str, Any]]:
    """A table as JSON rows, missing values as None."""
    told = table.astype(object).where(table.notna(), None)
    return list(told.to_dict(orient="records"))


@pytest.mark.parametrize(
    "body", [BRIEF_ROW, {"features": BRIEF_ROW}, {"features": list(BRIEF_ROW.values())}]
)
@pytest.mark.parametrize(
    "path", ["/predict", "/models/churn/predict", "/models/churn/versions/1.10.0/predict"]
)
def test_the_briefs_request_gets_the_briefs_answer(
    client: httpx.Client, originals: Originals, path: str, body: Any
) -> None:
    reply = client.post(path, json=body)
    scaled = originals["scaler"].transform(frame())
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {
        "prediction": int(originals["churn"].predict(scaled)[0]),
        "probability": originals["churn"].predict_proba(scaled)[0].tolist(),
        "model_version": "1.10.0",
    }
    assert list(reply.json()) == ["prediction", "probability", "model_version"]


def frame() -> Any:
    return churn_table(1).assign(**BRIEF_ROW)[list(BRIEF_ROW)]


def test_many_rows_as_objects_and_arrays(client: httpx.Client, originals: Originals) -> None:
    table = churn_table(50)
    rows: list[Any] = rows_of(table)
    rows[1::2] = [list(row.values()) for row in rows[1::2]]
    told = client.post("/batch_predict", json={"instances": rows}).json()
    scaled = originals["scaler"].transform(table)
    assert told == {
        "predictions": originals["churn"].predict(scaled).tolist(),
        "probabilities": originals["churn"].predict_proba(scaled).tolist(),
        "model_version": "1.10.0",
    }


def test_strings_booleans_and_missing_values(client: httpx.Client, originals: Originals) -> None:
    table = plans_table()
    told = client.post("/models/plans/batch_predict", json={"instances": rows_of(table)}).json()
    assert told["predictions"] == originals["plans"].predict(table).tolist()
    assert told["probabilities"] == originals["plans"].predict_proba(table).tolist()
    one = client.post("/models/plans/predict", json=rows_of(table)[0]).json()
    assert one["prediction"] == told["predictions"][0]
    assert isinstance(one["prediction"], str)


def test_a_compiled_model_answers_what_the_original_answers(
    client: httpx.Client, originals: Originals
) -> None:
    assert client.get("/models/compiled").json()["versions"][0]["runtime"] == ["onnx"]
    table = plans_table()
    told = client.post("/models/compiled/batch_predict", json={"instances": rows_of(table)}).json()
    assert told["predictions"] == originals["plans"].predict(table).tolist()
    expected = originals["plans"].predict_proba(table)
    np.testing.assert_allclose(told["probabilities"], expected, rtol=0, atol=1e-12)


def test_a_regressor_answers_without_probability(
    client: httpx.Client, originals: Originals
) -> None:
    told = client.post("/models/price/predict", json=BRIEF_ROW).json()
    expected = originals["price"].predict(frame().to_numpy())
    assert told == {"prediction": float(expected[0]), "model_version": "1.0.0"}


def test_verbose_adds_the_models_name_and_class_labels(client: httpx.Client) -> None:
    told = client.post("/predict?verbose=true", json=BRIEF_ROW).json()
    assert told["model_name"] == "churn"
    assert told["class_labels"] == [0, 1]
    assert "model_name" not in client.post("/predict?verbose=false", json=BRIEF_ROW).json()


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_answered(client: httpx.Client, originals: Originals) -> None:
    table = churn_table(100_000)
    rows = table.to_numpy().tolist()
    told = client.post("/batch_predict", json={"instances": rows}).json()
    scaled = originals["scaler"].transform(table)
    assert told["predictions"] == originals["churn"].predict(scaled).tolist()
    assert np.shape(told["probabilities"]) == (100_000, 2)


def test_each_version_answers_for_itself(client: httpx.Client) -> None:
    old = client.post("/models/churn/versions/1.0.0/predict", json=BRIEF_ROW).json()
    assert old["model_version"] == "1.0.0"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/vnd.api+json",
    ],
)
def test_json_is_read_whatever_common_type_it_is_sent_as(
    client: httpx.Client, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    body = b'{"features": [35.0, 24, 65.5, 1572.0]}'
    assert client.post("/predict", content=body, headers=headers).status_code == 200


def test_a_body_may_come_in_chunks_without_a_length(client: httpx.Client) -> None:
    parts = [b'{"features": [35.0, ', b"24, 65.5, 1572.0", b"]}"]
    assert client.post("/predict", content=iter(parts)).status_code == 200


def test_the_callers_request_id_comes_back(client: httpx.Client) -> None:
    reply = client.post("/predict", json=BRIEF_ROW, headers={"x-request-id": "abc-1"})
    assert reply.headers["x-request-id"] == "abc-1"
    ids = {client.post("/predict", json=BRIEF_ROW).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize(
    "path",
    [
        *("/health", "/health/live", "/health/ready", "/models", "/models/churn", "/"),
        *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/churn/ready", "/v2/models"),
        *("/ping", "/version", "/v1/models/churn", "/models/nobody", "/v2/models/nobody/ready"),
    ],
)
def test_head_answers_like_get_without_the_body(client: httpx.Client, path: str) -> None:
    head, got = client.head(path), client.get(path)  # which would read what HEAD left behind
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.status_code == (404 if "nobody" in path else 200)
    assert head.headers["content-type"] == got.headers["content-type"]
    assert got.content


def test_information_routes(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "healthy", "model_loaded": True}
    assert client.get("/health/live").json() == {"live": True}
    assert client.get("/health/ready").json() == {"ready": True}
    assert client.get("/models").json() == {
        "default_model": "churn",
        "models": [
            {"name": "churn", "versions": ["1.10.0", "1.0.0"]},
            {"name": "compiled", "versions": ["1.0.0"]},
            {"name": "moody", "versions": ["1.0.0"]},
            {"name": "plans", "versions": ["1.0.0"]},
            {"name": "price", "versions": ["1.0.0"]},
        ],
    }
    told = client.get("/models/plans").json()
    assert [f["datatype"] for f in told["versions"][0]["signature"]["inputs"]] == [
        "FP64",
        "BYTES",
        "BOOL",
    ]
    assert client.post("/models/plans/predict", json=told["example"]).status_code == 200


def test_pages_need_no_internet(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        page = client.get(path, headers={"accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert "https://" not in page.text
        assert "//cdn" not in page.text
    for path in ("/", "/docs"):
        told = client.get(path, headers={"accept": "text/html"}).headers
        assert told["x-frame-options"] == "DENY"
        assert told["x-content-type-options"] == "nosniff"
    assert "/docs/static/swagger-ui-bundle.js" in client.get("/docs").text
    assert client.get("/docs/static/swagger-ui-bundle.js").status_code == 200
    assert client.get("/docs/static/swagger-ui.css").status_code == 200


def test_the_openapi_document_knows_the_real_fields(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/predict", "/models/plans/batch_predict", "/models/churn/versions/1.0.0/predict"):
        assert "post" in document["paths"][path]
    row = document["components"]["schemas"]["churn_1.10.0_Row"]
    assert row["required"] == list(BRIEF_ROW)
    assert row["properties"]["tenure"]["type"] == "integer"
    answered = set()
    for path, item in document["paths"].items():
        body = item.get("post", {}).get("requestBody", {"content": {}})
        example = body["content"].get("application/json", {}).get("example")
        if example is not None:
            assert client.post(path, json=example).status_code == 200, path
            answered.add(path)
    others = {"/v2/models/plans/infer", "/v1/models/churn:predict", "/invocations"}
    assert {"/predict", "/models/plans/batch_predict", *others} <= answered
