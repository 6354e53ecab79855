"""KServe's own gRPC client, unmodified, against Foretell."""

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

from tests.e2e.clients.checks import refused, run


def matrix(rows: int, *, raw: bool) -> InferRequest:
    values = np.arange(rows * 4, dtype=np.float64).reshape(rows, 4)
    one = InferInput("x", [rows, 4], "FP64")
    one.set_data_from_numpy(values, binary_data=raw)
    return InferRequest("sums", [one], request_id="seven")


async def check_health(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("sums")


async def check_infer_raw_and_typed(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        for raw in (True, False):
            reply = await client.infer(matrix(2, raw=raw), headers=[("x-request-id", "mine")])
            assert (reply.id, reply.model_name) == ("seven", "sums")
            assert reply.outputs[0].as_numpy().tolist() == [6.0, 22.0]


async def check_text(address: str) -> None:
    one = InferInput("text", [2], "BYTES")
    one.set_data_from_numpy(np.array(["a", "ä"], dtype=object), binary_data=True)
    async with InferenceGRPCClient(address) as client:
        reply = await client.infer(InferRequest("upper", [one]))
        assert [bytes(text).decode() for text in reply.outputs[0].as_numpy()] == ["A", "Ä"]


async def check_failures(address: str) -> None:
    async with InferenceGRPCClient(address, retries=3) as client:
        with refused(grpc.RpcError, "there is no model"):
            await client.is_model_ready("none")
        empty = InferRequest("sums", [])
        with refused(grpc.RpcError, "is missing"):
            await client.infer(empty)


if __name__ == "__main__":
    run(dict(globals()))
