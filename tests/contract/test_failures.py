"""Every failure, on every path and of every kind, has one shape and says what to do."""

import gzip
import socket
import zlib
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from foretell import errors
from foretell.errors import ForetellError
from foretell.transports.rest.errors import STATUS
from tests.contract import moody
from tests.servers import Server

GOOD = b'{"age": 35.0, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}'
PATHS = ["/predict", "/models/churn/predict", "/models/churn/versions/1.0.0/predict"]


INFER = "/v2/models/churn/infer"
MATRIX = (
    b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [35, 24, 65, 1572]}]}'
)
V1 = "/v1/models/churn:predict"
EVERY = {  # each door's path, with a body it answers
    "/predict": GOOD,
    "/batch_predict": b'{"instances": [%s]}' % GOOD,
    INFER: MATRIX,
    V1: b'{"instances": [%s]}' % GOOD,
    "/invocations": b'{"dataframe_records": [%s]}' % GOOD,
}


def leaves(kind: type[ForetellError]) -> set[type[ForetellError]]:
    below = kind.__subclasses__()
    return set().union(*(leaves(one) for one in below)) if below else {kind}


def test_every_leaf_of_the_error_tree_has_a_status() -> None:
    assert leaves(ForetellError) == set(STATUS)
    assert {kind.code for kind in STATUS} <= {
        getattr(errors, name).code for name in dir(errors) if hasattr(getattr(errors, name), "code")
    }


def check(reply: httpx.Response, status: int, code: str, words: str, **where: Any) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    told = reply.json()
    assert told["code"] == code
    assert words in told["error"]
    assert "Traceback" not in told["error"]
    assert told["request_id"] == reply.headers["x-request-id"] != ""
    assert {key: told.get(key) for key in where} == where
    assert set(told) <= {"error", "code", "request_id", "field", "row"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "words", "field"),
    [
        (b"", "the body is empty", None),
        (b"{", "not valid JSON", None),
        (b"\xff", "not valid JSON", None),
        (GOOD.replace(b"35.0", b"NaN"), "not valid JSON", None),
        (GOOD.replace(b"35.0", b"-Infinity"), "not valid JSON", None),
        (GOOD.replace(b"35.0", b"1e999"), "not valid JSON", None),
        (GOOD.replace(b"35.0", b'"35.0"'), "must be a number", "age"),
        (GOOD.replace(b"35.0", b"true"), "'age' is true, but must be a number", "age"),
        (GOOD.replace(b"35.0", b"null"), "'age' is null, but must be a number", "age"),
        (GOOD.replace(b"24", b"24.5"), "must be a whole number", "tenure"),
        (GOOD.replace(b"24", b"9223372036854775808"), "must be between", "tenure"),
        (GOOD.replace(b'"age"', b'"agee"'), 'unknown field "agee"', "agee"),
        (b'{"age": 1}', "field 'tenure' is missing", "tenure"),
        (b'{"features": [1, 2, 3]}', "the row has 3 values, but the model takes 4", None),
        (b"[" * 200_000, "nested too deeply", None),
    ],
)
def test_bad_rows(
    client: httpx.Client, path: str, body: bytes, words: str, field: str | None
) -> None:
    check(client.post(path, content=body), 400, "invalid_input", words, field=field)


@pytest.mark.parametrize("path", [path.replace("predict", "batch_predict") for path in PATHS])
@pytest.mark.parametrize(
    ("body", "words", "row"),
    [
        (b'{"instances": []}', "'instances' is empty; send at least one row", None),
        (b'{"rows": []}', 'the body must be an object {"instances"', None),
        (b'{"instances": 1}', "must be an array of rows", None),
        (b'{"instances": [%s, {}]}' % GOOD, "row 1: field 'age' is missing", 1),
        (b'{"instances": [[1, 2, 3, "x"]]}', "row 0: 'total_charges' is \"x\"", 0),
    ],
)
def test_bad_batches(
    client: httpx.Client, path: str, body: bytes, words: str, row: int | None
) -> None:
    check(client.post(path, content=body), 400, "invalid_input", words, row=row)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "words"),
    [
        (
            "POST",
            "/models/none/predict",
            404,
            "not_found",
            "served are churn, compiled, moody, plans, price",
        ),
        ("POST", "/models/churn/versions/9/predict", 404, "not_found", "loaded are 1.10.0, 1.0.0"),
        ("POST", "/models/churn/versions/9/batch_predict", 404, "not_found", "no version '9'"),
        ("POST", "/v2/models/none/infer", 404, "not_found", "served are churn, compiled"),
        ("POST", "/v2/models/churn/versions/9/infer", 404, "not_found", "no version '9'"),
        ("POST", "/v2/models//infer", 404, "not_found", "there is no route /v2/models//infer"),
        ("POST", "/v1/models/none:predict", 404, "not_found", "there is no model 'none'"),
        ("POST", "/v1/models/churn/versions/9:predict", 404, "not_found", "no version '9'"),
        ("PUT", "/v2/models/churn/infer", 405, "method_not_allowed", "send POST"),
        ("GET", "/v2/models/none", 404, "not_found", "there is no model 'none'"),
        ("GET", "/v2/models/churn/versions/9", 404, "not_found", "no version '9'"),
        ("GET", "/v2/models/none/ready", 404, "not_found", "there is no model 'none'"),
        ("GET", "/v2/models/none/config", 404, "not_found", "there is no model 'none'"),
        ("GET", "/v2/models/none/stats", 404, "not_found", "there is no model 'none'"),
        ("GET", "/v1/models/none", 404, "not_found", "there is no model 'none'"),
        ("GET", "/v2/repository/index", 405, "method_not_allowed", "send POST"),
        ("GET", "/v2/nothing", 404, "not_found", "there is no route /v2/nothing"),
        ("GET", "/v2/systemsharedmemory/status", 501, "not_implemented", "no shared memory"),
        ("POST", "/v2/cudasharedmemory/region/a/register", 501, "not_implemented", "no shared"),
        ("GET", "/v2/trace/setting", 501, "not_implemented", "no tracing by request"),
        ("POST", "/v2/models/churn/trace/setting", 501, "not_implemented", "no tracing"),
        ("GET", "/v2/logging", 501, "not_implemented", "no logging by request"),
        ("POST", "/v2/models/churn/generate", 501, "not_implemented", "no text generation"),
        ("GET", "/models/none", 404, "not_found", "there is no model 'none'"),
        ("GET", "/nothing/here", 404, "not_found", "there is no route /nothing/here"),
        ("POST", "/predict/", 404, "not_found", "there is no route /predict/"),
        ("GET", "/predict", 405, "method_not_allowed", "send POST"),
        ("PUT", "/models/churn/batch_predict", 405, "method_not_allowed", "send POST"),
        ("DELETE", "/health", 405, "method_not_allowed", "DELETE is not possible here"),
        ("POST", "/models", 405, "method_not_allowed", "send GET"),
        ("POST", "/predict?verbose=perhaps", 400, "invalid_input", "must be true or false"),
        ("GET", "/docs/static/none.js", 404, "not_found", "there is no route"),
    ],
)
def test_wrong_routes_and_methods(
    client: httpx.Client, method: str, path: str, status: int, code: str, words: str
) -> None:
    reply = client.request(method, path, content=GOOD if method == "POST" else None)
    check(reply, status, code, words)
    if status == 405:
        assert reply.headers["allow"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"content-type": "text/html"}, "the Content-Type is text/html"),
        ({"content-type": "multipart/form-data; boundary=x"}, "this route reads application/json"),
        ({"content-encoding": "br"}, "the Content-Encoding is br"),
    ],
)
def test_other_media_types(client: httpx.Client, headers: dict[str, str], words: str) -> None:
    check(
        client.post("/predict", content=GOOD, headers=headers),
        415,
        "unsupported_media_type",
        words,
    )


@pytest.mark.parametrize("path", EVERY)
def test_every_door_tells_of_failures_alike(client: httpx.Client, path: str) -> None:
    good = EVERY[path]
    assert client.post(path, content=good).status_code == 200
    check(client.get(path), 405, "method_not_allowed", "GET is not possible here; send POST")
    check(client.post(path, content=b""), 400, "invalid_input", "the body is empty")
    check(client.post(path, content=b"{"), 400, "invalid_input", "not valid JSON")
    check(client.post(path, content=b"\xff\x00"), 400, "invalid_input", "not valid JSON")
    check(client.post(path, content=b" " * 8_000_001), 413, "too_large", "larger than 8000000")
    for coding, words in (("gzip", "not readable as gzip"), ("br", "the Content-Encoding is br")):
        refused = client.post(path, content=good, headers={"content-encoding": coding})
        assert (refused.status_code, "error" in refused.json()) in {(400, True), (415, True)}
        assert words in refused.json()["error"]
    late = {"x-request-timeout-ms": "soon"}
    check(client.post(path, content=good, headers=late), 400, "invalid_input", "milliseconds")


@pytest.mark.parametrize("path", EVERY)
def test_every_door_reads_compressed_bodies(client: httpx.Client, path: str) -> None:
    good = EVERY[path]
    plain = client.post(path, content=good).json()
    for coding, packed in (("gzip", gzip.compress(good)), ("deflate", zlib.compress(good))):
        reply = client.post(path, content=packed, headers={"content-encoding": coding})
        assert reply.json() == plain
    bomb = gzip.compress(b" " * 8_000_001)
    refused = client.post(path, content=bomb, headers={"content-encoding": "gzip"})
    check(refused, 413, "too_large", "larger than 8000000 bytes")


@pytest.mark.parametrize("x", [moody.RAISE, moody.NOT_A_NUMBER])
def test_a_model_that_fails_does_so_alike_at_every_door(client: httpx.Client, x: float) -> None:
    infer = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, x]}]}
    for path, body in (
        ("/v2/models/moody/infer", infer),
        ("/v1/models/moody:predict", {"instances": [1.0, x]}),
    ):
        check(client.post(path, json=body), 500, "model_failed", "model moody 1.0.0 failed")


def test_too_many_rows(client: httpx.Client) -> None:
    body = b'{"instances":[' + b",".join([b"[1,2,3,4]"] * 100_001) + b"]}"
    words = "100001 rows in one request, but the limit is 100000"
    check(client.post("/batch_predict", content=body), 413, "too_large", words)


def test_a_large_body(client: httpx.Client) -> None:
    words = "larger than 8000000 bytes"
    check(client.post("/predict", content=b" " * 8_000_001), 413, "too_large", words)
    chunks = (b" " * 1_000_000 for _ in range(9))
    check(client.post("/predict", content=chunks), 413, "too_large", words)


@pytest.mark.parametrize("coding", ["Content-Length: 2147483648", "Transfer-Encoding: chunked"])
def test_two_gigabytes_are_refused_before_they_are_sent(server: Server, coding: str) -> None:
    """The refusal comes early, and the server neither reads nor holds the rest."""
    place = urlsplit(server.url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80), timeout=30) as link:
        link.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\n{coding}\r\n\r\n".encode())
        piece = b" " * 2**20
        if "chunked" in coding:
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        try:
            for _ in range(16):
                link.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused in the middle: the reply is there to be read all the same
        assert link.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (moody.RAISE, "RuntimeError"),
        (moody.EXIT, "SystemExit"),
        (moody.SHORT, "rows came back"),
        (moody.NOT_A_NUMBER, "not finite"),
        (moody.INFINITE, "not finite"),
        (moody.TEXT, "is not a number"),
        (moody.NESTED, "rows of shape (2,)"),
        (moody.COMPLEX, "is not a number"),
    ],
)
def test_a_model_that_fails_does_so_alone(client: httpx.Client, x: float, told: str) -> None:
    path = "/models/moody/batch_predict"
    reply = client.post(path, json={"instances": [[1.0], [x]]})
    check(reply, 500, "model_failed", told)
    assert "secret" not in reply.text
    assert client.post(path, json={"instances": [[1.0]]}).json()["predictions"] == [2.0]


def test_a_failure_carries_the_callers_request_id_unless_it_is_unusable(
    client: httpx.Client,
) -> None:
    mine = client.post("/predict", headers={"x-request-id": "mine"})
    assert mine.json()["request_id"] == "mine"
    long = client.post("/predict", headers={"x-request-id": "x" * 129})
    assert long.json()["request_id"] != "x" * 129


def test_the_log_has_what_the_reply_keeps_to_itself(client: httpx.Client, server: Server) -> None:
    reply = client.post("/models/moody/predict", json={"x": moody.RAISE})
    request_id = reply.json()["request_id"]
    server.until_logged(request_id)
    server.until_logged("a secret that stays in the log")


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(
    client: httpx.Client, server: Server
) -> None:
    place = urlsplit(server.url)
    assert place.hostname is not None
    before = len(server.log)
    for _ in range(20):
        with socket.create_connection((place.hostname, place.port or 80)) as link:
            link.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert client.post("/predict", content=GOOD).status_code == 200
    assert "Traceback" not in server.log[before:]


@pytest.mark.parametrize("timeout", ["0", "-1", "1.5", "soon", "86400001", "9" * 5000])
def test_a_timeout_that_is_none_is_refused(client: httpx.Client, timeout: str) -> None:
    reply = client.post("/predict", json={}, headers={"x-request-timeout-ms": timeout})
    check(reply, 400, "invalid_input", "must be a whole number of milliseconds")
    assert len(reply.content) < 500
