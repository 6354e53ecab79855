"""gRPC answers what REST answers, to real clients, and fails as REST fails."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pandas as pd
import pytest

from foretell.codecs import messages
from foretell.codecs.tensors import Tensor, from_raw, to_raw
from foretell.core.datatype import Datatype
from foretell.errors import ForetellError
from foretell.transports.grpc.errors import CODES
from tests.contract import moody
from tests.contract.conftest import churn_table, plans_table
from tests.contract.test_answers import BRIEF_ROW, rows_of
from tests.contract.test_failures import leaves
from tests.servers import Server
from tests.stubs import details, stub

pytestmark = pytest.mark.parametrize("server", ["h2corn"], indirect=True)

PREDICTION = "prediction.PredictionService"
INFERENCE = "inference.GRPCInferenceService"
FEATURES = list(BRIEF_ROW.values())


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(urlsplit(server.url).netloc) as channel:
        yield channel


@pytest.fixture
def prediction(channel: grpc.Channel) -> Any:
    return stub(channel, PREDICTION)


@pytest.fixture
def inference(channel: grpc.Channel) -> Any:
    return stub(channel, INFERENCE)


def row(*features: float) -> Any:
    return messages.message("prediction.PredictRequest")(features=features)


def asking(model: str, table: pd.DataFrame, *, typed: bool = False, **fields: Any) -> Any:
    """A ModelInferRequest of one tensor a column."""
    request = messages.message("inference.ModelInferRequest")(model_name=model, **fields)
    for name in table.columns:
        values = table[name].to_numpy()
        datatype = Datatype.of(values.dtype)
        if datatype is Datatype.BYTES:
            values = np.array([str(value) for value in values], dtype=object)
        part = request.inputs.add(name=name, datatype=datatype.value, shape=[len(table)])
        if typed:
            kind = {"FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}
            if datatype is Datatype.BYTES:
                part.contents.bytes_contents.extend(value.encode() for value in values)
            else:
                getattr(part.contents, kind[datatype]).extend(values.tolist())
        else:
            request.raw_input_contents.append(to_raw(Tensor(name, datatype, values)))
    return request


def answered(response: Any) -> dict[str, list[Any]]:
    """The outputs of a ModelInferResponse by name, as plain values."""
    raw = response.raw_output_contents
    return {
        part.name: from_raw(part.name, Datatype(part.datatype), part.shape, one).values.tolist()
        for part, one in zip(response.outputs, raw, strict=True)
    }


def singles(values: Any) -> Any:
    """The nearest 32-bit numbers."""
    return np.asarray(values, np.float32).tolist()


def failing(call: Any, request: Any, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as told:
        call(request, timeout=30, **options)
    return told.value


def test_every_leaf_of_the_error_tree_has_a_code(server: Server) -> None:
    assert leaves(ForetellError) == set(CODES)


def test_the_briefs_calls_get_the_briefs_answers(prediction: Any, client: httpx.Client) -> None:
    told = client.post("/predict", json=BRIEF_ROW).json()
    one = prediction.Predict(row(*FEATURES))
    assert (one.prediction, one.model_version) == (told["prediction"], told["model_version"])
    assert list(one.probabilities) == singles(told["probability"])
    rows = [FEATURES, [45.0, 36, 85.0, 3060.0]]
    told = client.post("/batch_predict", json={"instances": rows}).json()
    request = messages.message("prediction.BatchPredictRequest")(instances=[row(*r) for r in rows])
    many = prediction.BatchPredict(request)
    assert list(many.predictions) == told["predictions"]
    expected = singles(told["probabilities"])
    assert [list(part.values) for part in many.probabilities] == expected
    health = prediction.HealthCheck(messages.message("prediction.HealthRequest")())
    assert (health.status, health.model_loaded) == ("healthy", True)


def test_another_model_is_asked_by_metadata(prediction: Any) -> None:
    metadata = [("model-name", "churn"), ("model-version", "1.0.0")]
    assert prediction.Predict(row(*FEATURES), metadata=metadata).model_version == "1.0.0"
    unknown = failing(prediction.Predict, row(1), metadata=[("model-name", "nobody")])
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    assert "'nobody'" in unknown.details()


@pytest.mark.parametrize(("model", "words"), [("plans", "'plan' is a string"), ("price", "whole")])
def test_what_the_messages_cannot_carry_names_what_can(
    prediction: Any, model: str, words: str
) -> None:
    error = failing(prediction.Predict, row(1.0), metadata=[("model-name", model)])
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert words in error.details()
    assert INFERENCE in error.details()


@pytest.mark.parametrize(
    ("features", "words", "field"),
    [
        ([], "the row has 0 values, but the model takes 4", None),
        ([1, 2, 3], "the row has 3 values", None),
        ([1, 2.5, 3, 4], "'tenure' is 2.5, but must be a whole number", "tenure"),
        ([1, 3e38, 3, 4], "'tenure'", "tenure"),
        ([float("nan"), 2, 3, 4], "'age' is nan", "age"),
        ([1, 2, 3, float("inf")], "'total_charges' is inf", "total_charges"),
    ],
)
def test_wrong_features_are_told_with_field_and_details(
    prediction: Any, features: list[float], words: str, field: str | None
) -> None:
    error = failing(prediction.Predict, row(*features), metadata=[("x-request-id", "mine")])
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.details()
    told = details(error)
    assert told["ErrorInfo"].reason == "INVALID_INPUT"
    assert told["ErrorInfo"].metadata["request_id"] == "mine"
    assert ("x-request-id", "mine") in error.trailing_metadata()
    if field is not None:
        assert told["BadRequest"].field_violations[0].field == field
    batch = messages.message("prediction.BatchPredictRequest")(
        instances=[row(*FEATURES), row(*features)]
    )
    error = failing(prediction.BatchPredict, batch)
    assert error.details().startswith("row 1: ")
    assert details(error)["ErrorInfo"].metadata["row"] == "1"


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("model", ["churn", "price", "plans", "compiled"])
def test_tensors_get_the_answers_of_rows(
    inference: Any, client: httpx.Client, model: str, typed: bool
) -> None:
    table = plans_table(40).dropna() if model in ("plans", "compiled") else churn_table(40)
    response = inference.ModelInfer(asking(model, table, typed=typed, id="seven"))
    told = client.post(f"/models/{model}/batch_predict", json={"instances": rows_of(table)}).json()
    answers = answered(response)
    assert answers["prediction"] == told["predictions"]
    assert answers.get("probability") == told.get("probabilities")
    assert (response.id, response.model_name) == ("seven", model)
    assert response.model_version == told["model_version"]


def test_one_matrix_stands_for_all_columns_of_a_dense_model(inference: Any) -> None:
    table = churn_table(5)
    request = messages.message("inference.ModelInferRequest")(model_name="price")
    request.inputs.add(name="input-0", datatype="FP64", shape=[5, 4])
    request.raw_input_contents.append(table.to_numpy(np.float64).tobytes())
    assert answered(inference.ModelInfer(request)) == answered(
        inference.ModelInfer(asking("price", table))
    )


def test_wanted_outputs_alone_come_back_in_their_order(inference: Any) -> None:
    request = asking("churn", churn_table(2), model_version="1.0.0")
    for name in ("probability", "prediction"):
        request.outputs.add(name=name)
    response = inference.ModelInfer(request)
    assert [part.name for part in response.outputs] == ["probability", "prediction"]
    assert list(response.outputs[0].shape) == [2, 2]
    assert response.model_version == "1.0.0"
    request.outputs.add(name="score")
    error = failing(inference.ModelInfer, request)
    assert "there is no output 'score'" in error.details()


@pytest.mark.parametrize(
    ("parameter", "words"),
    [("classification", "over HTTP only"), ("shared_memory_region", "shared memory")],
)
def test_what_would_change_the_answer_is_refused_not_passed_over(
    inference: Any, parameter: str, words: str
) -> None:
    request = asking("churn", churn_table(2))
    request.outputs.add(name="probability").parameters[parameter].int64_param = 1
    error = failing(inference.ModelInfer, request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.details()


def test_missing_numbers_are_nan_and_missing_where_allowed(
    inference: Any, client: httpx.Client
) -> None:
    table = plans_table(8)[["usage", "plan", "active"]]
    table["plan"] = "basic"
    told = client.post("/models/plans/batch_predict", json={"instances": rows_of(table)}).json()
    assert (
        answered(inference.ModelInfer(asking("plans", table)))["probability"]
        == (told["probabilities"])
    )


@pytest.mark.parametrize(
    ("change", "words", "field"),
    [
        (lambda r: r.inputs.pop(), "3 inputs", None),
        (lambda r: (r.inputs.pop(), r.raw_input_contents.pop()), "'total_charges' is missing", 1),
        (lambda r: setattr(r.inputs[0], "name", "x"), "there is no input 'x'", 1),
        (lambda r: setattr(r.inputs[1], "name", "age"), "'age' was sent twice", 1),
        (lambda r: setattr(r.inputs[0], "datatype", "INT8"), "bytes, but INT8", 1),
        (lambda r: r.inputs[0].shape.append(-1), "the shape of 'age'", 1),
        (lambda r: r.inputs[0].shape.append(2), "'age' has", 1),
    ],
)
def test_wrong_tensors_are_told(inference: Any, change: Any, words: str, field: Any) -> None:
    request = asking("churn", churn_table(3))
    change(request)
    error = failing(inference.ModelInfer, request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.details()
    assert ("BadRequest" in details(error)) == (field is not None)


def moody_request(*values: float) -> Any:
    return asking("moody", pd.DataFrame({"x": np.array(values, float)}))


@pytest.mark.parametrize("mood", [moody.RAISE, moody.SHORT, moody.NOT_A_NUMBER, moody.TEXT])
def test_a_model_that_fails_is_internal_and_keeps_its_words(inference: Any, mood: float) -> None:
    error = failing(inference.ModelInfer, moody_request(mood))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "moody" in error.details()
    assert "secret" not in error.details()
    assert answered(inference.ModelInfer(moody_request(4.0))) == {"prediction": [8.0]}


def test_a_stream_is_answered_in_order_and_goes_on_after_a_failure(inference: Any) -> None:
    values = [1.0, 2.0, moody.RAISE, 3.0, 1e301, 4.0]
    requests = [moody_request(value) for value in values]
    for number, request in enumerate(requests):
        request.id = str(number)
    requests[1].parameters["triton_enable_empty_final_response"].bool_param = True
    told = list(inference.ModelStreamInfer(iter(requests)))
    assert [one.infer_response.id for one in told] == [str(n) for n in range(6)]
    good = [answered(one.infer_response).get("prediction") for one in told]
    assert good == [[2.0], [4.0], None, [6.0], None, [8.0]]
    assert "failed" in told[2].error_message
    assert "must be between" in told[4].error_message
    assert told[1].infer_response.parameters["triton_final_response"].bool_param


@pytest.mark.slow
def test_a_stream_of_thousands_is_answered_whole(inference: Any) -> None:
    told = list(inference.ModelStreamInfer(moody_request(float(n)) for n in range(1000, 4000)))
    assert [answered(one.infer_response)["prediction"][0] for one in told] == [
        2.0 * n for n in range(1000, 4000)
    ]


def test_the_server_tells_of_itself_and_its_models(inference: Any) -> None:
    def ask(method: str, **fields: Any) -> Any:
        request = messages.message(f"inference.{method}Request")(**fields)
        return getattr(inference, method)(request)

    assert ask("ServerLive").live
    assert ask("ServerReady").ready
    assert ask("ModelReady", name="churn").ready
    assert ask("ServerMetadata").name == "foretell"
    about = ask("ModelMetadata", name="plans")
    assert [(p.name, p.datatype, list(p.shape)) for p in about.inputs] == [
        ("usage", "FP64", [-1]),
        ("plan", "BYTES", [-1]),
        ("active", "BOOL", [-1]),
    ]
    assert [(p.name, list(p.shape)) for p in about.outputs][1] == ("probability", [-1, 2])
    assert list(ask("ModelMetadata", name="churn").versions) == ["1.10.0", "1.0.0"]
    signature = json.loads(about.properties["signature"])
    assert signature["class_labels"] == ["high", "low"]
    assert signature["inputs"][0]["nullable"]
    config = ask("ModelConfig", name="plans").config
    assert (config.name, config.max_batch_size) == ("plans", 1024)
    assert list(config.output[1].dims) == [2]
    index = ask("RepositoryIndex").models
    assert {(one.name, one.state) for one in index} >= {("churn", "READY"), ("moody", "READY")}


def test_statistics_count_rows_batches_and_failures(inference: Any) -> None:
    def statistics() -> Any:
        request = messages.message("inference.ModelStatisticsRequest")(name="moody")
        (one,) = inference.ModelStatistics(request).model_stats
        return one

    before = statistics()
    inference.ModelInfer(moody_request(1.0, 2.0, 3.0))
    failing(inference.ModelInfer, moody_request(moody.RAISE))
    after = statistics()
    assert after.inference_count - before.inference_count == 4
    assert after.execution_count - before.execution_count == 2
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert after.last_inference >= before.last_inference > 1.7e12


@pytest.mark.parametrize("name", ["nobody", ""])
@pytest.mark.parametrize("method", ["ModelMetadata", "ModelReady", "ModelConfig"])
def test_an_unknown_model_is_not_found(inference: Any, method: str, name: str) -> None:
    request = messages.message(f"inference.{method}Request")(name=name)
    assert failing(getattr(inference, method), request).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_models_are_not_unloaded_unless_that_is_allowed(inference: Any, method: str) -> None:
    request = messages.message(f"inference.{method}Request")(model_name="churn")
    error = failing(getattr(inference, method), request)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "--model-control" in error.details()


@pytest.mark.parametrize("service", ["", PREDICTION, INFERENCE, "churn", "plans"])
def test_health_is_of_the_server_its_services_and_its_models(
    channel: grpc.Channel, service: str
) -> None:
    health = stub(channel, "grpc.health.v1.Health")
    request = messages.message("grpc.health.v1.HealthCheckRequest")(service=service)
    assert health.Check(request).status == 1
    watched = health.Watch(request)
    assert next(watched).status == 1
    watched.cancel()


def test_health_of_somebody_unknown(channel: grpc.Channel) -> None:
    health = stub(channel, "grpc.health.v1.Health")
    request = messages.message("grpc.health.v1.HealthCheckRequest")(service="nobody")
    assert failing(health.Check, request).code() is grpc.StatusCode.NOT_FOUND
    watched = health.Watch(request)
    assert next(watched).status == 3  # SERVICE_UNKNOWN; the call goes on
    watched.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_shows_all_services_with_their_files(
    channel: grpc.Channel, version: str
) -> None:
    package = f"grpc.reflection.{version}"
    reflection = stub(channel, f"{package}.ServerReflection")
    request = messages.message(f"{package}.ServerReflectionRequest")
    asked = [
        request(list_services=""),
        request(file_containing_symbol=INFERENCE),
        request(file_by_filename="prediction.proto"),
        request(file_containing_symbol="no.Such"),
        request(all_extension_numbers_of_type="prediction.PredictRequest"),
        request(),
    ]
    told = list(reflection.ServerReflectionInfo(iter(asked)))
    services = {one.name for one in told[0].list_services_response.service}
    assert {PREDICTION, INFERENCE, "grpc.health.v1.Health"} < services
    assert len(told[1].file_descriptor_response.file_descriptor_proto) == 2  # with what it imports
    assert len(told[2].file_descriptor_response.file_descriptor_proto) == 1
    assert told[3].error_response.error_code == told[5].error_response.error_code == 5
    assert told[4].all_extension_numbers_response.base_type_name == "prediction.PredictRequest"
    assert all(one.original_request == each for one, each in zip(told, asked, strict=True))


def test_unknown_methods_and_services_are_unimplemented(channel: grpc.Channel) -> None:
    for path in (f"/{PREDICTION}/Guess", "/no.Such/Thing"):
        call = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        error = failing(call, b"")
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED, path


def test_garbage_is_an_invalid_argument(channel: grpc.Channel) -> None:
    call = channel.unary_unary(
        f"/{PREDICTION}/Predict", request_serializer=bytes, response_deserializer=bytes
    )
    assert failing(call, b"\xff" * 40).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_path_of_grpc_refuses_what_is_none(client: httpx.Client, server: Server) -> None:
    reply = client.post(f"/{PREDICTION}/Predict", json={})
    assert reply.status_code == 415
    assert "native gRPC" in reply.json()["error"]
