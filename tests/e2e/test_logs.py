"""What a real server logs: lines that machines read, and nothing of what clients sent."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from tests.e2e.test_grpc import INFERENCE, of
from tests.e2e.test_load import Place, ask, place, serving
from tests.servers import Server, running
from tests.stubs import stub

__all__ = ["place"]  # the fixture
pytestmark = pytest.mark.slow

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
CHURN = {"model": "churn", "version": "1.0.0"}
SECRET = {"features": ["s3cret", 24, 65.5, 1572.0]}
ROW = {"features": [35.0, 24, 65.5, 1572.0]}


def lines(server: Server) -> list[dict[str, Any]]:
    """Each line it wrote; all are JSON, whoever wrote them."""
    return [json.loads(line) for line in server.lines if line.strip()]


@pytest.mark.parametrize("kind", ["h2corn", "uvicorn"])
def test_every_line_is_json_where_nobody_looks(churn: Path, kind: str) -> None:
    with running(churn, "--server", kind, FORETELL_LOG_FORMAT="json") as server:
        reply = httpx.post(f"{server.url}/predict", json=SECRET, headers=SENT)
        assert (reply.status_code, reply.headers["x-request-id"]) == (400, "mine")
        invalid = {
            "inputs": [{"name": "age", "datatype": "BYTES", "shape": [1], "data": ["s3cret"]}]
        }
        httpx.post(f"{server.url}/v2/models/churn/infer", json=invalid, headers=SENT)
        assert httpx.post(f"{server.url}/predict", json=ROW, headers=SENT).status_code == 200
        assert httpx.get(f"{server.url}/models/nobody", headers=SENT).status_code == 404
    told = lines(server)
    failed = [line for line in told if line["event"] == "a request failed"]
    assert [(line.get("model"), line["code"]) for line in failed] == [
        ("churn", "invalid_input"),
        ("churn", "invalid_input"),
        (None, "not_found"),
    ]
    assert failed[0].items() >= {**CHURN, "field": "age", "reason": "must be a number"}.items()
    assert all((line["request_id"], line["trace_id"]) == ("mine", TRACE) for line in failed)
    assert "s3cret" not in server.log
    assert not [line for line in told if line["event"] == "a request"]
    (serves,) = [
        line for line in told if line["event"].startswith("serving; try: curl http://HOST")
    ]
    assert serves.items() >= {**CHURN, "at": ["127.0.0.1:0"]}.items()


def test_requests_are_logged_when_that_is_asked_for(churn: Path) -> None:
    with (
        running(churn, "--log-requests", "1", FORETELL_LOG_FORMAT="json") as server,
        grpc.insecure_channel(urlsplit(server.url).netloc) as channel,
    ):
        httpx.post(f"{server.url}/predict", json=ROW, headers=SENT)
        model = stub(channel, INFERENCE)
        asked = model.ModelInfer.future(of(1.0, model="nobody"), metadata=[*SENT.items()])
        assert asked.code() is grpc.StatusCode.NOT_FOUND
    asked_for = [line for line in lines(server) if line["event"] == "a request"][1:]
    assert [(line["path"], line["status"], line.get("grpc_status")) for line in asked_for] == [
        ("/predict", 200, None),
        (f"/{INFERENCE}/ModelInfer", 200, grpc.StatusCode.NOT_FOUND.value[0]),
    ]
    for line in asked_for:
        assert (line["request_id"], line["trace_id"], line["method"]) == ("mine", TRACE, "POST")
        assert 0 < line["ms"] < 60_000


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_models_failure_is_one_line_with_its_own_words(place: Place, kind: str) -> None:
    with serving(place, "--log-format", "json", "--executor", kind) as server:
        place.gate.touch()
        assert ask(server, -3.0, **SENT).status_code == 500
        server.until_logged("a secret that stays in the log")
    (failed,) = [line for line in lines(server) if line.get("request_id") == "mine"]
    told = {"model": "gated", "version": "1.0.0", "code": "model_failed", "trace_id": TRACE}
    assert failed.items() >= {**told, "level": "error"}.items()
    assert "ValueError: a secret that stays in the log" in failed["exception"]
