"""The Open Inference Protocol over HTTP: the models' own answers, in the protocol's words."""

import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from tests.contract.conftest import Originals, churn_table, plans_table
from tests.contract.test_failures import check

ROW = [35.0, 24.0, 65.5, 1572.0]
LENGTH = "inference-header-content-length"


def matrix(rows: Any, **more: Any) -> dict[str, Any]:
    told = {"name": "x", "shape": [len(rows), 4], "datatype": "FP64", "data": rows}
    return {"inputs": [told], **more}


def columns(table: Any) -> dict[str, Any]:
    """A table as one tensor for each of its columns, missing values as null."""
    kinds = {"f": "FP64", "i": "INT64", "b": "BOOL", "O": "BYTES"}
    plain = table.astype(object).where(table.notna(), None)
    return {
        "inputs": [
            {
                "name": name,
                "shape": [len(table)],
                "datatype": kinds[table[name].dtype.kind],
                "data": plain[name].tolist(),
            }
            for name in table.columns
        ]
    }


def outputs(told: dict[str, Any]) -> dict[str, Any]:
    """A reply's tensors as nested lists."""
    return {
        one["name"]: np.array(one["data"], dtype=object).reshape(one["shape"]).tolist()
        for one in told["outputs"]
    }


def test_a_matrix_and_columns_get_the_original_models_answer(
    client: httpx.Client, originals: Originals
) -> None:
    table = churn_table(50)
    scaled = originals["scaler"].transform(table)
    expected = {
        "prediction": originals["churn"].predict(scaled).tolist(),
        "probability": originals["churn"].predict_proba(scaled).tolist(),
    }
    for body in (matrix(table.to_numpy().tolist()), columns(table)):
        told = client.post("/v2/models/churn/infer", json=body).json()
        assert outputs(told) == expected
        assert (told["model_name"], told["model_version"]) == ("churn", "1.10.0")
        assert "id" not in told


def test_texts_booleans_and_missing_values_get_the_original_models_answer(
    client: httpx.Client, originals: Originals
) -> None:
    table = plans_table()
    told = outputs(client.post("/v2/models/plans/infer", json=columns(table)).json())
    assert told["prediction"] == originals["plans"].predict(table).tolist()
    assert told["probability"] == originals["plans"].predict_proba(table).tolist()


def test_each_version_answers_for_itself_and_the_id_comes_back(client: httpx.Client) -> None:
    body = matrix([ROW], id="mine/1 ä")
    told = client.post("/v2/models/churn/versions/1.0.0/infer", json=body).json()
    assert (told["model_version"], told["id"]) == ("1.0.0", "mine/1 ä")


def test_binary_tensors_both_ways_without_any_content_type(
    client: httpx.Client, originals: Originals
) -> None:
    table = churn_table(100)
    raw = table.to_numpy().astype("<f8").tobytes()
    told = {
        "name": "x",
        "shape": [100, 4],
        "datatype": "FP64",
        "parameters": {"binary_data_size": len(raw)},
    }
    header = json.dumps({"inputs": [told], "parameters": {"binary_data_output": True}}).encode()
    body = header + raw
    plain = {LENGTH: str(len(header))}
    expected = originals["churn"].predict_proba(originals["scaler"].transform(table))
    for headers, sent in (
        (plain, body),
        ({**plain, "content-encoding": "gzip"}, gzip.compress(body)),
        ({**plain, "content-encoding": "deflate"}, zlib.compress(body)),
        ({**plain, "content-type": "text/html"}, body),
    ):
        reply = client.post("/v2/models/churn/infer", content=sent, headers=headers)
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == "application/octet-stream"
        length = int(reply.headers[LENGTH])
        one, two = json.loads(reply.content[:length])["outputs"]
        assert one["parameters"] == {"binary_data_size": 800}
        assert two["parameters"] == {"binary_data_size": 1600}
        found = np.frombuffer(reply.content[length + 800 :], "<f8").reshape(two["shape"])
        np.testing.assert_array_equal(found, expected)


def test_a_raw_body_is_the_whole_request(client: httpx.Client) -> None:
    reply = client.post(
        "/v2/models/moody/infer", content=np.array([1.0, 2.0]).tobytes(), headers={LENGTH: "0"}
    )
    length = int(reply.headers[LENGTH])
    assert np.frombuffer(reply.content[length:], "<f8").tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("wish", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=1", "gzip"),
        ("gzip;q=0", None),
        ("gzip, deflate", None),
        ("gzip, deflate, br, zstd", None),
        ("identity", None),
        ("br", None),
        ("*", None),
    ],
)
def test_a_reply_is_compressed_when_exactly_one_coding_is_named(
    client: httpx.Client, wish: str, coding: str | None
) -> None:
    large, small = matrix([ROW] * 5000), matrix([ROW])
    reply = client.post("/v2/models/churn/infer", json=large, headers={"accept-encoding": wish})
    assert reply.headers.get("content-encoding") == coding
    assert len(reply.json()["outputs"][0]["data"]) == 5000
    if coding is not None:
        assert int(reply.headers["content-length"]) < 5000
    short = client.post("/v2/models/churn/infer", json=small, headers={"accept-encoding": wish})
    assert "content-encoding" not in short.headers


def test_a_timeout_in_microseconds_is_a_deadline(client: httpx.Client) -> None:
    late = client.post("/v2/models/plans/infer", json=late_body(1))
    check(late, 504, "deadline_exceeded", "the deadline passed")
    assert client.post("/v2/models/plans/infer", json=late_body(60_000_000)).status_code == 200
    assert client.post("/v2/models/plans/infer", json=late_body(0)).status_code == 200


def late_body(timeout: int) -> dict[str, Any]:
    return {**columns(plans_table(5)), "parameters": {"timeout": timeout}}


def test_metadata_tells_the_real_signature(client: httpx.Client) -> None:
    told = client.get("/v2/models/plans").json()
    assert told["inputs"] == [
        {"name": "usage", "datatype": "FP64", "shape": [-1]},
        {"name": "plan", "datatype": "BYTES", "shape": [-1]},
        {"name": "active", "datatype": "BOOL", "shape": [-1]},
    ]
    assert told["outputs"][1] == {"name": "probability", "datatype": "FP64", "shape": [-1, 2]}
    assert (told["name"], told["versions"]) == ("plans", ["1.0.0"])
    assert client.get("/v2/models/compiled").json()["platform"] == "onnx_onnxv1"
    assert client.get("/v2/models/churn").json()["versions"] == ["1.10.0", "1.0.0"]
    config = client.get("/v2/models/churn/config").json()
    assert config["output"][1] == {"name": "probability", "data_type": "TYPE_FP64", "dims": [2]}


def test_the_server_tells_of_itself(client: httpx.Client) -> None:
    for path in ("/v2", "/v2/"):
        told = client.get(path).json()
        assert told["name"] == "foretell"
        assert {"binary_tensor_data", "model_repository", "statistics"} <= set(told["extensions"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json()["ready"] is True
    assert client.get("/v2/models").json() == {
        "models": ["churn", "compiled", "moody", "plans", "price"]
    }
    assert client.get("/v2/models/churn/versions/1.0.0/ready").json() == {
        "name": "churn",
        "ready": True,
    }


def test_statistics_count_rows_runs_and_failures(client: httpx.Client) -> None:
    def counts() -> tuple[int, int, int]:
        (told,) = client.get("/v2/models/moody/stats").json()["model_stats"]
        failed = told["inference_stats"]["fail"]["count"]
        return told["inference_count"], told["execution_count"], failed

    def ask(x: list[float]) -> int:
        body = {"inputs": [{"name": "x", "shape": [len(x)], "datatype": "FP64", "data": x}]}
        return client.post("/v2/models/moody/infer", json=body).status_code

    before = counts()
    assert [ask([1.0, 2.0, 3.0]), ask([666.0])] == [200, 500]
    after = counts()
    assert [b - a for a, b in zip(before, after, strict=True)] == [4, 2, 1]
    everything = client.get("/v2/models/stats").json()["model_stats"]
    assert len(everything) == 6


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}'])
def test_the_index_takes_an_empty_body_of_no_type(client: httpx.Client, body: bytes) -> None:
    told = client.post("/v2/repository/index", content=body)
    assert told.status_code == 200
    assert len(told.json()) == 6
    assert {"name": "churn", "version": "1.0.0", "state": "READY", "reason": ""} in told.json()


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_models_are_not_unloaded_by_requests_unless_that_is_set(
    client: httpx.Client, verb: str
) -> None:
    reply = client.post(f"/v2/repository/models/churn/{verb}")
    check(reply, 403, "forbidden", "start the server with --model-control")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("index", b"[]", "must be empty or a JSON object"),
        ("index", b"{", "not valid JSON"),
        ("index", b'{"ready": 1}', "'ready' must be true or false"),
        ("models/churn/load", b"[" * 100_000, "nested too deeply"),
        ("models/churn/unload", b'{"parameters": []}', "'parameters' must be an object"),
    ],
)
def test_repository_requests_that_are_none(
    client: httpx.Client, path: str, body: bytes, words: str
) -> None:
    reply = client.post(f"/v2/repository/{path}", content=body)
    check(reply, 400, "invalid_input", words)


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"{}", {}, "missing required field `inputs`"),
        (b"{}", {LENGTH: "3"}, "Inference-Header-Content-Length is 3, but the body has 2 bytes"),
        (b"{}", {LENGTH: "-1"}, "must be a number of bytes"),
        (b"{}", {LENGTH: "9" * 400}, "must be a number of bytes"),
        (b"123", {LENGTH: "0"}, "or with inputs of one number datatype"),
        (json.dumps(matrix([ROW], outputs=[{"name": "zzz"}])).encode(), {}, "no output 'zzz'"),
    ],
)
def test_inference_requests_that_are_none(
    client: httpx.Client, body: bytes, headers: dict[str, str], words: str
) -> None:
    reply = client.post("/v2/models/churn/infer", content=body, headers=headers)
    check(reply, 400, "invalid_input", words)


def test_a_shape_alone_takes_no_memory(client: httpx.Client) -> None:
    for shape in ([2**40, 4], [2**62, 4], [0, 2**62]):
        body = {"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": []}]}
        assert client.post("/v2/models/churn/infer", json=body).status_code == 400
    too_many = {**matrix([]), "parameters": {}}
    too_many["inputs"][0] |= {"shape": [100_001, 4], "data": [0] * 400_004}
    check(client.post("/v2/models/churn/infer", json=too_many), 413, "too_large", "the limit is")
