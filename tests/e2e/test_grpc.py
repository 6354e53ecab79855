"""gRPC as its users have it: real clients, deadlines, large messages, TLS, reloads."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
import numpy as np
import pytest
import trustme

import foretell.codecs
from foretell.codecs import messages
from tests.e2e.test_load import Place, place, serving, until
from tests.servers import Server, running
from tests.stubs import details, stub

__all__ = ["place"]  # the fixture
pytestmark = pytest.mark.slow

PREDICTION = "prediction.PredictionService"
INFERENCE = "inference.GRPCInferenceService"
PROTO = Path(foretell.codecs.__file__).parent / "protos" / "prediction.proto"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
FEATURES = [35.0, 24, 65.5, 1572.0]


def address(server: Server) -> str:
    return urlsplit(server.url).netloc


def features() -> Any:
    return messages.message("prediction.PredictRequest")(features=FEATURES)


def of(*values: float, model: str = "gated") -> Any:
    request = messages.message("inference.ModelInferRequest")(model_name=model)
    request.inputs.add(name="x", datatype="FP64", shape=[len(values)])
    request.raw_input_contents.append(np.array(values, "<f8").tobytes())
    return request


def values_of(response: Any) -> list[float]:
    values: list[float] = np.frombuffer(response.raw_output_contents[0], "<f8").tolist()
    return values


BRIEF = """
import sys
import grpc
import prediction_pb2
import prediction_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = prediction_pb2_grpc.PredictionServiceStub(channel)
    request = prediction_pb2.PredictRequest(features=[35.0, 24, 65.5, 1572.0])
    response = stub.Predict(request)
    print(response.prediction, list(response.probabilities), response.model_version)
    response = stub.BatchPredict(
        prediction_pb2.BatchPredictRequest(
            instances=[
                prediction_pb2.PredictRequest(features=inst)
                for inst in ([35.0, 24, 65.5, 1572.0], [45.0, 36, 85.0, 3060.0])
            ]
        )
    )
    print(list(response.predictions), [list(p.values) for p in response.probabilities])
"""


def test_the_briefs_client_works_with_stubs_of_the_published_file(
    churn: Path, tmp_path: Path
) -> None:
    made = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO.parent), *made]
    subprocess.run([*protoc, PROTO.name], check=True)
    (tmp_path / "client.py").write_text(BRIEF)
    with running(churn) as server:
        told = subprocess.run(
            [sys.executable, "client.py", address(server)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split("\n")
    assert told[0].startswith(("0 [0.", "1 [0."))
    assert told[0].endswith("] 1.0.0")
    assert told[1].startswith(f"[{told[0][0]}, ")
    assert told[0].split("[")[1].split("]")[0] in told[1]


def test_both_ports_are_bound_unless_told_otherwise(churn: Path, tmp_path: Path) -> None:
    from foretell.app.settings import Settings

    assert Settings().bind == ("127.0.0.1:8000", "127.0.0.1:50051")
    bind = ["--bind", "127.0.0.1:0", "--bind", f"unix:{tmp_path}/grpc"]
    with running(churn, *bind) as server:
        for target in (address(server), f"unix:{tmp_path}/grpc"):
            with grpc.insecure_channel(target) as channel:
                assert stub(channel, PREDICTION).Predict(features()).model_version == "1.0.0"


def test_a_deadline_is_kept_and_its_rows_do_not_run(place: Place) -> None:
    with (
        serving(place, "--executor", "thread") as server,
        grpc.insecure_channel(address(server)) as channel,
    ):
        infer = stub(channel, INFERENCE).ModelInfer
        slow = infer.future(of(11))
        place.until_seen(11)
        request = of(12)
        request.parameters["timeout"].int64_param = 50_000  # microseconds, the protocol's own
        for late, seconds in ((request, 30.0), (of(13), 0.1)):
            with pytest.raises(grpc.RpcError) as told:
                infer(late, timeout=seconds)
            assert told.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        place.gate.touch()
        assert values_of(slow.result()) == [22]
        assert values_of(infer(of(14), timeout=30)) == [28]
    assert {12, 13}.isdisjoint(place.seen)


def test_a_cancelled_call_does_not_run(place: Place) -> None:
    with (
        serving(place, "--executor", "thread") as server,
        grpc.insecure_channel(address(server)) as channel,
    ):
        infer = stub(channel, INFERENCE).ModelInfer
        slow = infer.future(of(11))
        place.until_seen(11)
        leaving = infer.future(of(12))
        live, nothing = (
            stub(channel, INFERENCE).ServerLive,
            messages.message("inference.ServerLiveRequest"),
        )
        assert live(nothing()).live  # what was sent before on this connection has come
        leaving.cancel()
        assert live(nothing()).live
        place.gate.touch()
        assert values_of(slow.result()) == [22]
        assert values_of(infer(of(14))) == [28]
    assert 12 not in place.seen


VANISHES = """
import sys
import grpc
from tests.e2e.test_grpc import INFERENCE, of, stub
channel = grpc.insecure_channel(sys.argv[1])
calls = [stub(channel, INFERENCE).ModelInfer.future(of(x)) for x in (12, 13)]
print("sent", flush=True)
calls[0].result()
"""


def test_a_client_that_vanishes_leaves_nothing_behind(place: Place) -> None:
    with (
        serving(place, "--executor", "thread") as server,
        grpc.insecure_channel(address(server)) as channel,
    ):
        inference = stub(channel, INFERENCE)
        slow = inference.ModelInfer.future(of(11))
        place.until_seen(11)
        command = [sys.executable, "-c", VANISHES, address(server)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "sent\n"
            client.kill()
        ready = messages.message("inference.ServerLiveRequest")()
        for _ in range(20):
            assert inference.ServerLive(ready).live
        place.gate.touch()
        assert values_of(slow.result()) == [22]
        assert values_of(inference.ModelInfer(of(14))) == [28]
    assert {12, 13}.isdisjoint(place.seen)


def test_a_full_queue_says_when_to_come_back(place: Place) -> None:
    with (
        serving(place, "--executor", "thread", "--max-queue-rows", "2") as server,
        grpc.insecure_channel(address(server)) as channel,
    ):
        infer = stub(channel, INFERENCE).ModelInfer
        first = infer.future(of(11))
        place.until_seen(11)
        asked = [infer.future(of(n)) for n in range(6)]
        until(lambda: sum(one.done() for one in asked) == 4)
        place.gate.touch()
        shed = [one for one in asked if one.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert first.result()
        assert len(shed) == 4
        told = details(shed[0])
        assert told["ErrorInfo"].reason == "OVERLOADED"
        assert 0 < told["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 60
        assert "retry-after" in dict(shed[0].trailing_metadata())


@pytest.fixture(scope="module")
def open_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model that doubles x."""
    place = Place(tmp_path_factory.mktemp("open"))
    with serving(place, "--executor", "inline", "--max-rows", "10000000") as server:
        place.gate.touch()
        yield server


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_of_16_mib_go_both_ways(open_gate: Server, compression: Any) -> None:
    values = np.arange(2 * 2**20, dtype="<f8")
    with grpc.insecure_channel(
        address(open_gate), options=UNLIMITED, compression=compression
    ) as channel:
        answer = stub(channel, INFERENCE).ModelInfer(of(*values), timeout=120)
    assert len(answer.raw_output_contents[0]) == 16 * 2**20
    np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0]), values * 2)


def test_a_message_over_the_limit_is_refused_and_the_connection_lives(open_gate: Server) -> None:
    with grpc.insecure_channel(address(open_gate), options=UNLIMITED) as channel:
        infer = stub(channel, INFERENCE).ModelInfer
        with pytest.raises(grpc.RpcError) as told:
            infer(of(*np.zeros(9 * 2**20)), timeout=120)
        assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_body_bytes" in str(told.value.details())
        assert values_of(infer(of(3))) == [6]


def test_deflate_is_refused_with_what_is_read(open_gate: Server) -> None:
    with grpc.insecure_channel(address(open_gate)) as channel:
        with pytest.raises(grpc.RpcError) as told:
            stub(channel, INFERENCE).ModelInfer(of(1), compression=grpc.Compression.Deflate)
        assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_binary_metadata_goes_both_ways(open_gate: Server) -> None:
    every = [("trace-bin", bytes(range(256))), ("x-request-id", "mine")]
    with grpc.insecure_channel(address(open_gate)) as channel:
        infer = stub(channel, INFERENCE).ModelInfer
        answer, call = infer.with_call(of(1), metadata=every)
        assert values_of(answer) == [2]
        assert ("x-request-id", "mine") in list(map(tuple, call.trailing_metadata()))
        with pytest.raises(grpc.RpcError) as told:
            infer(of(1, model="nobody"), metadata=every)
        failed: Any = told.value
        trailing = dict(map(tuple, failed.trailing_metadata()))
        assert isinstance(trailing["grpc-status-details-bin"], bytes)
        assert details(failed)["ErrorInfo"].reason == "NOT_FOUND"


def test_200_streams_at_a_time_are_answered(open_gate: Server) -> None:
    async def scene() -> None:
        async with grpc.aio.insecure_channel(address(open_gate)) as channel:
            infer = stub(channel, INFERENCE).ModelStreamInfer
            calls = [infer() for _ in range(200)]
            for turn in range(3):
                await asyncio.gather(
                    *(call.write(of(n * 10 + turn)) for n, call in enumerate(calls))
                )
                told = await asyncio.gather(*(call.read() for call in calls))
                got = [values_of(one.infer_response) for one in told]
                assert got == [[2.0 * (n * 10 + turn)] for n in range(200)]
            await asyncio.gather(*(call.done_writing() for call in calls))
            assert {await call.code() for call in calls} == {grpc.StatusCode.OK}

    asyncio.run(scene())


def test_a_thousand_calls_at_a_time_are_answered(open_gate: Server) -> None:
    async def scene() -> list[list[float]]:
        async with grpc.aio.insecure_channel(address(open_gate)) as channel:
            infer = stub(channel, INFERENCE).ModelInfer
            return [
                values_of(one) for one in await asyncio.gather(*(infer(of(n)) for n in range(1000)))
            ]

    assert asyncio.run(scene()) == [[2.0 * n] for n in range(1000)]


def test_keepalive_pings_are_answered_while_nothing_else_is_said(open_gate: Server) -> None:
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 500),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(address(open_gate), options=options) as channel:
        channel.subscribe(states.append)
        assert values_of(stub(channel, INFERENCE).ModelInfer(of(1))) == [2]
        quiet = threading.Event()
        assert not quiet.wait(2.0)  # some twenty pings
        assert values_of(stub(channel, INFERENCE).ModelInfer(of(2))) == [4]
    assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states
    assert states.count(grpc.ChannelConnectivity.READY) == 1


def test_it_works_over_tls(churn: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    files: list[str | Path] = ["--certfile", tmp_path / "cert", "--keyfile", tmp_path / "key"]
    with running(churn, *files) as server:
        trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(address(server), trust) as channel:
            assert stub(channel, PREDICTION).Predict(features()).model_version == "1.0.0"


def loaded_times(server: Server, count: int) -> bool:
    return server.log.count("is loaded") >= count


RETRYING = """{"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""
"""What a channel is told that repeats calls itself, as KServe's client does."""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([("grpc.service_config", RETRYING)], id="retrying"),
        pytest.param([], id="plain"),
    ],
)
def test_a_reload_of_two_workers_under_load_drops_no_call(churn: Path, options: Any) -> None:
    stop = threading.Event()

    def call_on() -> int:
        answered = 0
        with grpc.insecure_channel(address(server), options=options) as channel:
            predict = stub(channel, PREDICTION).Predict
            while not stop.is_set():
                assert predict(features(), timeout=30).model_version == "1.0.0"
                answered += 1
        return answered

    with running(churn, "--workers", "2") as server, ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call_on) for _ in range(8)]
        for turn in range(1, 3):
            server.process.send_signal(signal.SIGHUP)
            until(partial(loaded_times, server, 2 + 2 * turn))
        until(lambda: server.log.count("Stopped worker") >= 4)
        stop.set()
        counts = [caller.result() for caller in callers]
    assert min(counts) > 0
    assert sum(counts) > 100


GUARDED = """
import sys
import foretell
import h2corn
from starlette.middleware.base import BaseHTTPMiddleware

class Guard:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and (b"x-key", b"good") not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)

async def passed_on(request, call_next):
    return await call_next(request)

app = foretell.create_app(sys.argv[1])
app.add_middleware(Guard)
if sys.argv[3] == "wrapped":
    app.add_middleware(BaseHTTPMiddleware, dispatch=passed_on)
h2corn.serve(app, h2corn.Config(bind=("127.0.0.1:" + sys.argv[2],), grpc=True))
"""


@pytest.mark.parametrize("kind", ["plain", "wrapped"])
def test_a_users_middleware_stands_around_grpc(churn: Path, kind: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", GUARDED, str(churn), str(port), kind]
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as serving_it,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        try:
            predict = stub(channel, PREDICTION).Predict
            with pytest.raises(grpc.RpcError) as told:
                predict(features(), wait_for_ready=True, timeout=60)
            assert told.value.code() is grpc.StatusCode.UNAUTHENTICATED
            if kind == "plain":
                assert predict(features(), metadata=[("x-key", "good")]).model_version == "1.0.0"
            else:  # such middleware drops trailers: a call cannot succeed, but it cannot slip by
                with pytest.raises(grpc.RpcError):
                    predict(features(), metadata=[("x-key", "good")], timeout=10)
        finally:
            serving_it.terminate()
