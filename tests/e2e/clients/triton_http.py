"""Triton's own HTTP client, unmodified, against Foretell."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.e2e.clients.checks import refused, run

COLUMNS = {
    "bool": np.array([True, False, True, False, True]),
    **{
        kind: np.array([0, 1, 2, 3, np.iinfo(kind).max], kind)
        for kind in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
    },
    "fp16": np.array([0.5, 1, 2, -3, 65504], np.float16),
    "fp32": np.array([0.1, 1, 2, -3, 3e38], np.float32),
    "fp64": np.array([0.1, 1, 2, -3, 1e308]),
    "text": np.array(["", "a", "ä", "漢字", "x" * 1000], dtype=object),
    "vector": np.arange(15, dtype=np.float32).reshape(5, 3),
}


def inputs(*, binary: bool) -> list[triton.InferInput]:
    made = []
    for name, column in COLUMNS.items():
        one = triton.InferInput(name, list(column.shape), np_to_triton_dtype(column.dtype))
        # Triton's client writes FP16 in JSON as nothing any server could read.
        one.set_data_from_numpy(column, binary_data=binary or column.dtype == np.float16)
        made.append(one)
    return made


def outputs(*, binary: bool) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in COLUMNS]


def same(result: triton.InferResult, name: str) -> None:
    found, sent = result.as_numpy(name), COLUMNS[name]
    if name == "text":
        told = [text.decode() if isinstance(text, bytes) else text for text in found]
        assert told == sent.tolist()
    else:
        assert found.dtype == sent.dtype, name
        assert np.array_equal(found, sent), name


@contextmanager
def client_of(address: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address, concurrency=4)
    try:
        yield client
    finally:
        client.close()


def refuses(words: str) -> AbstractContextManager[None]:
    return refused(InferenceServerException, words)


def check_binary_both_ways(address: str) -> None:
    with client_of(address) as client:
        result = client.infer("echo", inputs(binary=True), request_id="mine")
    for name in COLUMNS:
        same(result, name)
    told = result.get_response()
    assert told["id"] == "mine"
    assert told["model_name"] == "echo"
    assert told["model_version"] == "1.0.0"
    assert all("binary_data_size" in output["parameters"] for output in told["outputs"])


def check_json_both_ways(address: str) -> None:
    with client_of(address) as client:
        result = client.infer("echo", inputs(binary=False), outputs=outputs(binary=False))
    for name in COLUMNS:
        same(result, name)
    assert all("data" in output for output in result.get_response()["outputs"])
    assert "id" not in result.get_response()


def check_json_in_and_binary_out(address: str) -> None:
    with client_of(address) as client:
        result = client.infer("echo", inputs(binary=False))  # asks for binary by itself
    for name in COLUMNS:
        same(result, name)


def check_some_outputs_each_in_its_own_way(address: str) -> None:
    wanted = [
        triton.InferRequestedOutput("vector", binary_data=True),
        triton.InferRequestedOutput("text", binary_data=False),
        triton.InferRequestedOutput("int64", binary_data=True),
    ]
    with client_of(address) as client:
        result = client.infer("echo", inputs(binary=True), outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == [
        "vector",
        "text",
        "int64",
    ]
    for name in ("vector", "text", "int64"):
        same(result, name)
    assert result.as_numpy("fp64") is None


def check_compression_both_ways(address: str) -> None:
    for coding in ("gzip", "deflate"):
        with client_of(address) as client:
            result = client.infer(
                "echo",
                inputs(binary=True),
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
        for name in COLUMNS:
            same(result, name)


def matrix(rows: int = 3) -> triton.InferInput:
    values = np.arange(rows * 4, dtype=np.float64).reshape(rows, 4)
    one = triton.InferInput("whatever", [rows, 4], "FP64")
    return one.set_data_from_numpy(values)


def check_a_dense_model_takes_one_tensor(address: str) -> None:
    with client_of(address) as client:
        told = client.infer("sums", [matrix()]).as_numpy("sum")
        megabytes = client.infer("sums", [matrix(100_000)]).as_numpy("sum")
    assert told.tolist() == [6.0, 22.0, 38.0]
    assert megabytes.shape == (100_000,)


def check_asynchronous_requests(address: str) -> None:
    with client_of(address) as client:
        asked = [client.async_infer("sums", [matrix(n)]) for n in range(1, 30)]
        assert [one.get_result().as_numpy("sum").shape for one in asked] == [
            (n,) for n in range(1, 30)
        ]


def check_versions_are_free_strings(address: str) -> None:
    with client_of(address) as client:
        result = client.infer("sums", [matrix()], model_version="2.0-rc.1+x")
        assert result.get_response()["model_version"] == "2.0-rc.1+x"
        assert client.is_model_ready("sums", "1.0.0")
        assert client.get_model_metadata("sums", "1.0.0")["name"] == "sums"


def check_metadata_health_and_config(address: str) -> None:
    with client_of(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert not client.is_model_ready("none")
        told = client.get_server_metadata()
        assert told["name"] == "foretell"
        assert "binary_tensor_data" in told["extensions"]
        about = client.get_model_metadata("echo")
        assert {"name": "vector", "datatype": "FP32", "shape": [-1, 3]} in about["inputs"]
        assert client.get_model_metadata("sums")["versions"] == ["2.0-rc.1+x", "1.0.0"]
        config = client.get_model_config("echo")
        assert {"name": "text", "data_type": "TYPE_STRING", "dims": [1]} in config["input"]
        assert config["max_batch_size"] > 1


def check_statistics_count_rows_and_runs(address: str) -> None:
    with client_of(address) as client:
        (before,) = client.get_inference_statistics("sums")["model_stats"]
        client.infer("sums", [matrix(7)])
        (after,) = client.get_inference_statistics("sums")["model_stats"]
        everything = client.get_inference_statistics()["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 7
    assert after["execution_count"] - before["execution_count"] == 1
    counts = [one["inference_stats"]["success"]["count"] for one in (before, after)]
    assert counts[1] - counts[0] == 1
    assert after["last_inference"] > 1_600_000_000_000
    assert {"echo", "sums", "upper"} == {one["name"] for one in everything}


def check_index_load_and_unload(address: str) -> None:
    with client_of(address) as client:
        index = client.get_model_repository_index()
        assert {"name": "echo", "version": "1.0.0", "state": "READY", "reason": ""} in index
        client.unload_model("sums")
        assert not client.is_model_ready("sums")
        assert not client.is_server_ready()
        states = {one["name"]: one["state"] for one in client.get_model_repository_index()}
        assert states == {"echo": "READY", "sums": "UNAVAILABLE", "upper": "READY"}
        with refuses("was unloaded"):
            client.infer("sums", [matrix()])
        client.load_model("sums")
        assert client.is_server_ready()
        client.infer("sums", [matrix()])
        with refuses("there is no model 'none'"):
            client.load_model("none")
        with refuses("another configuration"):
            client.load_model("sums", config='{"max_batch_size": 1}')


def check_failures_say_what_is_wrong(address: str) -> None:
    wrong = triton.InferInput("a", [1], "FP64").set_data_from_numpy(np.ones(1))
    text = triton.InferInput("x", [1, 4], "BYTES")
    text.set_data_from_numpy(np.array([["a", "b", "c", "d"]], dtype=object))
    with client_of(address) as client:
        with refuses("served are echo, sums, upper"):
            client.infer("none", [matrix()])
        with refuses("no version '9'"):
            client.infer("sums", [matrix()], model_version="9")
        with refuses("input 'b' is missing"):
            client.infer("sums", [wrong])
        with refuses("there is no output 'zzz'; the outputs are sum"):
            client.infer("sums", [matrix()], outputs=[triton.InferRequestedOutput("zzz")])
        with refuses("must be a number"):
            client.infer("sums", [text])
        with refuses("this server has no shared memory"):
            client.get_system_shared_memory_status()
        with refuses("this server has no tracing"):
            client.get_trace_settings()


def check_a_timeout_in_microseconds_and_other_parameters(address: str) -> None:
    with client_of(address) as client:
        client.infer("sums", [matrix()], timeout=60_000_000, priority=1, parameters={"mine": "x"})
        with refuses("the deadline passed"):
            client.infer("sums", [matrix()], timeout=1)


def check_classification(address: str) -> None:
    wanted = [triton.InferRequestedOutput("vector", class_count=2)]
    with client_of(address) as client:
        told = client.infer("echo", inputs(binary=True), outputs=wanted).as_numpy("vector")
    assert told.shape == (5, 2)
    assert told[0].tolist() == [b"2.0:2", b"1.0:1"]


if __name__ == "__main__":
    run(dict(globals()))
