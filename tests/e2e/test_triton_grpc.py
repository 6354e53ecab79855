"""Triton's own gRPC clients, unmodified, each in a process of its own."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.servers import running

pytestmark = pytest.mark.slow

BEGINNING = """
import asyncio, queue, sys
import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

url = sys.argv[1]
ROWS = {
    "age": np.array([35.0, 45.0]),
    "tenure": np.array([24, 36]),
    "monthly_charges": np.array([65.5, 85.0]),
    "total_charges": np.array([1572.0, 3060.0]),
}

def inputs(module, rows=ROWS):
    made = []
    for name, values in rows.items():
        one = module.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        one.set_data_from_numpy(values)
        made.append(one)
    return made

def check(result):
    assert result.as_numpy("prediction").shape == (2,)
    assert result.as_numpy("probability").shape == (2, 2)
    np.testing.assert_allclose(result.as_numpy("probability").sum(axis=1), 1)

def code_of(call):
    try:
        call()
    except InferenceServerException as error:
        return error.status(), error.message()
    raise AssertionError("it did not fail")
"""

SYNC = """
import tritonclient.grpc as triton
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("churn")
assert client.is_model_ready("churn", "1.0.0")
assert client.get_server_metadata().name == "foretell"
about = client.get_model_metadata("churn", as_json=True)
assert [one["name"] for one in about["inputs"]] == list(ROWS)
assert client.get_model_config("churn").config.max_batch_size == 1024
assert [one.name for one in client.get_model_repository_index().models] == ["churn"]

check(client.infer("churn", inputs(triton)))
check(client.infer("churn", inputs(triton), compression_algorithm="gzip"))
result = client.infer(
    "churn", inputs(triton), request_id="seven", model_version="1.0.0", client_timeout=30,
    timeout=30_000_000, priority=1, headers={"x-request-id": "mine"},
    outputs=[triton.InferRequestedOutput("probability")],
)
assert result.get_response().id == "seven"
assert result.as_numpy("prediction") is None
matrix = triton.InferInput("input-0", [2, 4], "FP32")
matrix.set_data_from_numpy(np.stack([v.astype(np.float32) for v in ROWS.values()], axis=1))
check(client.infer("churn", [matrix]))
statistics = client.get_inference_statistics("churn").model_stats
assert len(statistics) == 1 and statistics[0].inference_count == 8

done = queue.Queue()
client.async_infer("churn", inputs(triton), lambda result, error: done.put((result, error)))
result, error = done.get(timeout=30)
assert error is None
check(result)

status, message = code_of(lambda: client.infer("nobody", inputs(triton)))
assert status == "StatusCode.NOT_FOUND" and "nobody" in message, (status, message)
wrong = dict(ROWS, age=np.array([35.0]))
status, message = code_of(lambda: client.infer("churn", inputs(triton, wrong)))
assert status == "StatusCode.INVALID_ARGUMENT" and "rows" in message, (status, message)
status, message = code_of(lambda: client.unload_model("churn"))
assert status == "StatusCode.PERMISSION_DENIED", (status, message)
status, message = code_of(lambda: client.get_trace_settings())
assert status == "StatusCode.UNIMPLEMENTED", (status, message)
client.close()
"""

STREAM = """
import tritonclient.grpc as triton
done = queue.Queue()
with triton.InferenceServerClient(url) as client:
    client.start_stream(lambda result, error: done.put((result, error)))
    for number in range(100):
        name = "nobody" if number == 50 else "churn"
        client.async_stream_infer(name, inputs(triton), request_id=str(number))
    for number in range(100):
        result, error = done.get(timeout=30)
        if number == 50:
            assert "nobody" in str(error), error
        else:
            assert error is None, error
            assert result.get_response().id == str(number)
            check(result)
    client.async_stream_infer("churn", inputs(triton), enable_empty_final_response=True)
    result, error = done.get(timeout=30)
    assert result.get_response().parameters["triton_final_response"].bool_param
    client.stop_stream()
"""

AIO = """
import tritonclient.grpc.aio as triton

async def requests():
    for number in range(20):
        yield {"model_name": "churn", "inputs": inputs(triton), "request_id": str(number)}

async def scene():
    async with triton.InferenceServerClient(url) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata("churn")).name == "churn"
        for result in await asyncio.gather(
            *(client.infer("churn", inputs(triton)) for _ in range(50))
        ):
            check(result)
        seen = []
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            check(result)
            seen.append(result.get_response().id)
        assert seen == [str(number) for number in range(20)]
        try:
            await client.infer("nobody", inputs(triton))
        except InferenceServerException as error:
            assert error.status() == "StatusCode.NOT_FOUND"
        else:
            raise AssertionError("it did not fail")

asyncio.run(scene())
"""


@pytest.mark.parametrize(
    "script", [SYNC, STREAM, AIO], ids=["blocking", "streaming", "asynchronous"]
)
def test_tritons_client_works_unmodified(churn: Path, script: str) -> None:
    with running(churn) as server:
        ended = subprocess.run(
            [sys.executable, "-c", BEGINNING + script, urlsplit(server.url).netloc],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert ended.returncode == 0, ended.stderr + server.log
