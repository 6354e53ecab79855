"""Triton's own asyncio HTTP client, unmodified, against Foretell."""

import asyncio

import numpy as np
import tritonclient.http.aio as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.clients.checks import refused, run


def matrix(rows: int, *, binary: bool = True) -> triton.InferInput:
    values = np.arange(rows * 4, dtype=np.float64).reshape(rows, 4)
    one = triton.InferInput("x", [rows, 4], "FP64")
    return one.set_data_from_numpy(values, binary_data=binary)


def client_of(address: str) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(address)


async def check_binary_and_json(address: str) -> None:
    async with client_of(address) as client:
        for binary in (True, False):
            wanted = [triton.InferRequestedOutput("sum", binary_data=binary)]
            inputs = [matrix(2, binary=binary)]
            result = await client.infer("sums", inputs, outputs=wanted, request_id="a")
            assert result.as_numpy("sum").tolist() == [6.0, 22.0]
            assert result.get_response()["id"] == "a"


async def check_many_at_once(address: str) -> None:
    async with client_of(address) as client:
        results = await asyncio.gather(*(client.infer("sums", [matrix(n)]) for n in range(1, 50)))
    assert [one.as_numpy("sum").shape for one in results] == [(n,) for n in range(1, 50)]


async def check_compression(address: str) -> None:
    async with client_of(address) as client:
        for coding in ("gzip", "deflate"):
            result = await client.infer(
                "sums",
                [matrix(5000)],
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            assert result.as_numpy("sum").shape == (5000,)


async def check_the_repository_and_metadata(address: str) -> None:
    async with client_of(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert (await client.get_model_metadata("sums"))["name"] == "sums"
        assert (await client.get_model_config("sums"))["name"] == "sums"
        assert len(await client.get_model_repository_index()) == 4
        await client.unload_model("upper")
        assert not await client.is_model_ready("upper")
        await client.load_model("upper")
        assert await client.is_model_ready("upper")
        assert len((await client.get_inference_statistics("sums"))["model_stats"]) == 1


async def check_failures(address: str) -> None:
    async with client_of(address) as client:
        with refused(InferenceServerException, "[404] there is no model 'none'"):
            await client.infer("none", [matrix(1)])


if __name__ == "__main__":
    run(dict(globals()))
