"""Every client's words mean the same, and a call that failed is never counted as answered."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from benchmarks.harness import BenchFailed, Script, Server, check_answer, measure_script, running
from benchmarks.loads import GRPC, GRPC_HEADERS, Load, client, is_ready, told_by_h2load
from benchmarks.one_by_one import request_bytes
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SERVERS

from benchmarks import bodies
from foretell.codecs import messages
from foretell.codecs.oip_json import OipJson
from foretell.codecs.oip_messages import tensors_of, write_response
from foretell.codecs.tensors import Tensor, Tensors
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature

RIGHT = {"prediction": 1, "probability": [0.25, 0.75], "model_version": "1.0.0"}
ANSWER = messages.message("prediction.PredictResponse")(
    prediction=1, probabilities=[0.25, 0.75], model_version="1.0.0"
)
CALL = Load(
    "one row",
    "/prediction.PredictionService/Predict",
    bodies.predict_message([1.0]),
    4,
    1,
    RIGHT,
    protocol=GRPC,
    streams=8,
    headers=GRPC_HEADERS,
    read=bodies.predicted,
)
PRINTED = """
finished in 2.00s, 50.00 req/s, 1.12MB/s
requests: 100 total, 132 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout
status codes: {fine} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 2.24MB (2346475) total, 159.37KB (163194) headers (space savings 95.18%), 2KB ({data}) data
"""
LOG = "".join(f"1795543261515762\t200\t{took}\n" for took in range(1, 101))


@pytest.mark.parametrize(
    ("fine", "data", "refused"),
    [
        (100, 100 * 25, 0),
        (100, 100 * 25 + 24, 0),  # some of an answer that was on its way
        (103, 103 * 25, 0),
        (60, 60 * 25, 40),  # HTTP's own refusals
        (100, 99 * 25, 1),  # a call that failed has the status 200, and no message
        (100, 0, 100),
    ],
)
def test_h2load_tells_answered_and_failed_calls_apart(fine: int, data: int, refused: int) -> None:
    load = replace(CALL, answer_bytes=20)
    told = told_by_h2load(PRINTED.format(fine=fine, data=data), LOG, load)
    assert told == {
        "requests": 100,
        "seconds": 2.0,
        "p50_us": 50,
        "p90_us": 90,
        "p99_us": 99,
        "refused": refused,
        "broken": 0,
    }


def test_h2load_that_tells_nothing_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="did not tell"):
        told_by_h2load("could not connect", "", CALL)


@contextmanager
def serving(answer: bytes | None) -> Iterator[Server]:
    """A gRPC server that answers every call with `answer`, or with an error."""

    def call(_: bytes, context: grpc.ServicerContext) -> bytes:
        if answer is None:
            context.abort(grpc.StatusCode.INTERNAL, "sorry")
        return answer or b""

    handler: Any = grpc.unary_unary_rpc_method_handler(call)
    methods: dict[str, Any] = {"Predict": handler, "Health": handler}
    server = grpc.server(ThreadPoolExecutor(1))
    service = grpc.method_handlers_generic_handler("prediction.PredictionService", methods)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready = f"grpc://127.0.0.1:{port}/prediction.PredictionService/Health"
    try:
        yield Server("calls", (), ready, speaks=(GRPC,))
    finally:
        server.stop(None).wait()


def test_a_call_is_checked_by_a_client_that_knows_grpc() -> None:
    with serving(ANSWER.SerializeToString()) as server:
        assert is_ready(server.ready_url)
        assert check_answer(server, CALL) == len(ANSWER.SerializeToString())


@pytest.mark.parametrize(
    "wrong",
    [
        type(ANSWER)(prediction=0, probabilities=[0.25, 0.75], model_version="1.0.0"),
        type(ANSWER)(prediction=1, probabilities=[0.25], model_version="1.0.0"),
        None,
    ],
)
def test_a_server_whose_call_fails_or_answers_wrongly_is_not_measured(wrong: object) -> None:
    answer = None if wrong is None else wrong.SerializeToString()  # type: ignore[attr-defined] # made by protobuf
    with (
        serving(answer) as server,
        pytest.raises(BenchFailed, match="calls gave a wrong answer to 'one row'"),
    ):
        check_answer(server, CALL)


def test_a_server_that_echoes_is_right_when_it_does() -> None:
    with serving(CALL.body) as server:
        check_answer(replace(server, echoes=True), CALL)
    with serving(CALL.body + b"?") as server, pytest.raises(BenchFailed, match="wrong answer"):
        check_answer(replace(server, echoes=True), CALL)


def test_nobody_is_ready_where_nobody_listens() -> None:
    assert not is_ready("grpc://127.0.0.1:1/prediction.PredictionService/Health")


@pytest.mark.parametrize(
    "load",
    [Load("wrk", "/", b"", 1, 1), Load("one by one", "/", b"", 1, 1, whole=True), CALL],
    ids=lambda load: load.name,
)
def test_every_client_sends_the_headers_of_the_load(load: Load, tmp_path: Path) -> None:
    argv = client("http://127.0.0.1:1/", load, 1, tmp_path).argv
    for name, value in load.headers.items():
        assert any(f"{name}: {value}" in word for word in argv)


def test_one_by_one_sends_the_headers_it_is_told() -> None:
    sent = request_bytes("http://x:1/path", "POST", b"body", ["A: 1", "B: 2"])
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /path HTTP/1.1",
        b"Host: x:1",
        b"A: 1",
        b"B: 2",
        b"Content-Length: 4",
    ]
    assert body == b"body"


MATRIX = np.array([[1, 2], [3, 4]], np.float32)
SIGNATURE = Signature(
    (Field("a", Datatype.FP64), Field("b", Datatype.FP64)),
    (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64, shape=(2,))),
)
OUTPUTS = [
    Tensor("prediction", Datatype.INT64, np.array([1, 0])),
    Tensor("probability", Datatype.FP64, np.array([[0.25, 0.75], [1, 0]])),
]


def test_a_tensor_is_sent_alike_over_both_protocols() -> None:
    body, headers = bodies.tensor_body(MATRIX)
    length = int(headers["Inference-Header-Content-Length"])
    by_rest = OipJson(SIGNATURE).decode(body, length, max_rows=2).batch
    request = messages.message("inference.ModelInferRequest").FromString(
        bodies.infer_message(MATRIX)
    )
    by_grpc = Tensors(SIGNATURE).accept(tensors_of(request, request.raw_input_contents), max_rows=2)
    for batch in (by_rest, by_grpc):
        assert batch.matrix.tolist() == MATRIX.tolist()


def test_the_answers_tensors_are_read_alike_over_both_protocols() -> None:
    said = {"prediction": [1, 0], "probability": [[0.25, 0.75], [1, 0]]}
    told = {"model": "churn", "version": "1"}
    message = b"".join(write_response(OUTPUTS, request_id="", **told))
    assert bodies.inferred_by_message(message) == said
    codec, (body, headers) = OipJson(SIGNATURE), bodies.tensor_body(MATRIX)
    length = int(headers["Inference-Header-Content-Length"])
    asked = codec.decode(body, length, max_rows=2)
    outputs = Batch.from_columns(SIGNATURE.outputs, [tensor.values for tensor in OUTPUTS])
    assert bodies.inferred(codec.encode(outputs, asked, **told).body) == said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpc", "tensors"])
def test_every_server_of_the_gRPC_scenarios_gives_the_right_answer(  # noqa: N802
    name: str, tmp_path: Path
) -> None:
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    site = scenario.prepare(tmp_path)
    loads = scenario.loads(site, [1], 1)
    asked = 0
    own = [name for name in scenario.servers if name != "floor"]  # that is nginx
    for server in (SERVERS[known](site) for known in own):
        if isinstance(server, Script):
            assert measure_script(server, loads[0]).requests_per_s > 0  # which checks its answer
            continue
        with running(server, tmp_path / "log"):
            for load in loads:
                if load.protocol in server.speaks:
                    check_answer(server, load)
                    asked += 1
    assert asked == {"grpc": 10, "tensors": 4}[name]
