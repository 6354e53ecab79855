"""All bodies together have a limit, at whatever doors they come in; small ones always get in."""

import gzip
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from foretell.codecs import messages
from foretell.errors import Overloaded
from foretell.transports.asgi.bodies import Bodies, HeldInTurn
from tests.servers import STOP_S, Server, running
from tests.stubs import stub

pytestmark = pytest.mark.slow

BUDGET = 1_000_000
LARGE = 900_000
ROW = b'{"age": 35.0, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}'
ROWS = b'{"instances": [%s]}' % ROW
MATRIX = (
    b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [35, 24, 65, 1572]}]}'
)
JSON, CSV, LINES = "application/json", "text/csv", "application/x-ndjson"

Ask = Callable[[str, int], str]
"""What becomes of a request with so many bytes: the code of its failure, or ""."""


def posted(path: str, body: bytes, content_type: str = JSON, **headers: str) -> Ask:
    """Blanks before the body make it as large as it is to be."""

    def ask(url: str, size: int) -> str:
        sent = {"content-type": content_type, **headers}
        filled = (b"\n" if content_type == LINES else b" ") * size + body
        if content_type == CSV:
            filled = body + b"".join([body.split(b"\n")[1] + b"\n"] * (size // 20))
        if headers.get("content-encoding") == "gzip":
            filled = gzip.compress(filled)
        told: Any = filled
        if headers.get("transfer-encoding") == "chunked":
            told = (filled[at : at + 10_000] for at in range(0, len(filled), 10_000))
        reply = httpx.post(url + path, content=told, headers=sent, timeout=60)
        if reply.status_code == 429:
            assert int(reply.headers["retry-after"]) > 0
        return "" if reply.status_code == 200 else str(reply.json()["code"])

    return ask


def called(compression: grpc.Compression, *, stream: bool) -> Ask:
    """An id makes the message as large as it is to be."""

    def ask(url: str, size: int) -> str:
        request = messages.message("inference.ModelInferRequest")(model_name="churn")
        request.inputs.add(name="x", datatype="FP64", shape=[1, 4]).contents.fp64_contents.extend(
            [35, 24, 65, 1572]
        )
        request.outputs.add(name="prediction")
        request.id = "x" * size
        most = ("grpc.max_receive_message_length", 2**30)
        with grpc.insecure_channel(
            url.removeprefix("http://"), [most], compression=compression
        ) as channel:
            service = stub(channel, "inference.GRPCInferenceService")
            if stream:
                answers = service.ModelStreamInfer(iter([request]))
                return _failure(lambda: [one.error_message for one in answers])
            return _failure(lambda: service.ModelInfer(request))

    return ask


def _failure(ask: Callable[[], object]) -> str:
    try:
        ask()
    except grpc.RpcError as error:
        status: Any = error
        if status.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return "overloaded" if "retry-after" in dict(status.trailing_metadata()) else "too_large"
    return ""


DOORS: dict[str, Ask] = {
    "predict": posted("/predict", ROW),
    "batch": posted("/batch_predict", ROWS),
    "chunked": posted("/predict", ROW, **{"transfer-encoding": "chunked"}),
    "gzip": posted("/predict", ROW, **{"content-encoding": "gzip"}),
    "oip": posted("/v2/models/churn/infer", MATRIX),
    "invocations": posted("/invocations", ROWS),
    "csv": posted("/predict", b"age,tenure,monthly_charges,total_charges\n35,24,65.5,1572\n", CSV),
    "lines": posted("/predict", ROW, LINES),
    "lines, gzip": posted("/predict", ROW, LINES, **{"content-encoding": "gzip"}),
    "lines to JSON": posted("/predict", ROW, LINES, accept=JSON),
    "grpc": called(grpc.Compression.NoCompression, stream=False),
    "grpc, gzip": called(grpc.Compression.Gzip, stream=False),
    "grpc stream": called(grpc.Compression.NoCompression, stream=True),
    "grpc stream, gzip": called(grpc.Compression.Gzip, stream=True),
}


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    told = ["--default-model", "churn", "--max-body-bytes-in-flight", str(BUDGET)]
    with running(repository, *told) as server:
        yield server


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + STOP_S
    while not condition():
        assert time.monotonic() < end


@contextmanager
def another_is_sending(url: str, size: int) -> Iterator[None]:
    """A client that has sent so much of its body, and sends no more; it leaves at the end."""
    place = urlsplit(url)
    assert place.hostname is not None
    with ExitStack() as links:

        def one_is_held() -> bool:
            link = socket.create_connection((place.hostname, place.port or 80), timeout=STOP_S)
            links.enter_context(link)
            link.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
            link.sendall(b" " * size)
            refused = False  # it may itself be the one that comes too late beside those that ask
            while not refused:
                if DOORS["predict"](url, LARGE) == "overloaded":
                    return True
                refused = bool(select.select([link], [], [], 0)[0])
            return False

        until(one_is_held)
        yield


@pytest.mark.parametrize("door", DOORS)
def test_a_body_that_does_not_fit_beside_others_is_to_come_back(door: str, server: Server) -> None:
    ask = DOORS[door]
    with another_is_sending(server.url, 500_000):
        assert ask(server.url, LARGE) == "overloaded"
        assert ask(server.url, 1000) == ""
    until(lambda: ask(server.url, LARGE) == "")


@pytest.mark.parametrize("door", DOORS)
def test_what_was_answered_is_held_no_more(door: str, server: Server) -> None:
    for _ in range(3):
        assert DOORS[door](server.url, LARGE) == ""


@pytest.mark.parametrize("path", ["/predict", "/v2/models/churn/infer", "/invocations"])
def test_what_was_refused_is_held_no_more(path: str, server: Server) -> None:
    for _ in range(3):
        reply = httpx.post(server.url + path, content=b"{" * LARGE, timeout=60)
        assert reply.status_code in (400, 413)


def test_one_that_is_larger_than_all_of_it_is_taken_alone(server: Server) -> None:
    for _ in range(2):
        assert DOORS["predict"](server.url, 2 * BUDGET) == ""


def test_the_budget_is_shared_and_given_back() -> None:
    bodies = Bodies(100)
    with bodies.holding() as first:
        first.add(90)
        first.add(90)  # nobody else is there
        with bodies.holding() as second, pytest.raises(Overloaded, match="180 bytes of other"):
            second.add(1)
        first.free_all()
        first.add(60)
        with bodies.holding() as second:
            second.add(40)
            with pytest.raises(Overloaded, match="more than 100"):
                first.add(1)
    assert bodies.held_bytes == 0


def test_the_messages_of_a_stream_are_held_until_each_is_answered() -> None:
    bodies = Bodies(100)
    with HeldInTurn(bodies) as held:
        for _ in range(2):
            held.add(40)
            held.end_message()
        with pytest.raises(Overloaded):
            held.add(40)
        held.answer()
        held.add(40)
        assert bodies.held_bytes == 80
        held.answer()
        held.answer()  # a stream may have more answers than requests
        assert bodies.held_bytes == 40
    assert bodies.held_bytes == 0
