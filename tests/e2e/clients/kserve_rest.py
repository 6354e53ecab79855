"""KServe's own REST client, unmodified, against Foretell: its V1 and V2 protocols."""

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.e2e.clients.checks import refused, run


def client_of(protocol: str) -> InferenceRESTClient:
    return InferenceRESTClient(RESTConfig(protocol=protocol, timeout=30))


def matrix(rows: int, *, binary: bool) -> InferInput:
    one = InferInput("x", [rows, 4], "FP64")
    one.set_data_from_numpy(
        np.arange(rows * 4, dtype=np.float64).reshape(rows, 4), binary_data=binary
    )
    return one


async def check_v2_binary_and_json(address: str) -> None:
    client = client_of("v2")
    for binary in (True, False):
        wanted = [RequestedOutput("sum", parameters={"binary_data": binary})]
        request = InferRequest(
            "sums", [matrix(2, binary=binary)], request_id="7", request_outputs=wanted
        )
        reply = await client.infer(f"http://{address}", request, model_name="sums")
        assert reply.id == "7"
        assert reply.model_name == "sums"
        assert reply.outputs[0].as_numpy().tolist() == [6.0, 22.0]


async def check_v2_text(address: str) -> None:
    one = InferInput("text", [2], "BYTES")
    one.set_data_from_numpy(np.array(["a", "ä"], dtype=object), binary_data=True)
    request = InferRequest("upper", [one])
    reply = await client_of("v2").infer(f"http://{address}", request, model_name="upper")
    assert [str(text) for text in reply.outputs[0].data] == ["A", "Ä"]


async def check_v2_health(address: str) -> None:
    client, base = client_of("v2"), f"http://{address}"
    assert await client.is_server_live(base)
    assert await client.is_server_ready(base)
    assert await client.is_model_ready(base, "sums")


async def check_v1_predict_and_health(address: str) -> None:
    client, base = client_of("v1"), f"http://{address}"
    for key in ("instances", "inputs"):
        told = await client.infer(base, {key: [[1, 2, 3, 4], [5, 6, 7, 8]]}, model_name="sums")
        assert told == {"predictions": [10.0, 26.0]}
    assert await client.is_server_live(base)
    assert await client.is_model_ready(base, "sums")


async def check_failures(address: str) -> None:
    for protocol, body in (("v1", {"instances": [[1]]}), ("v2", {"inputs": []})):
        client = client_of(protocol)
        for model, words in (("none", "there is no model"), ("sums", "400 Bad Request")):
            with refused(httpx.HTTPStatusError, words):
                await client.infer(f"http://{address}", body, model_name=model)


if __name__ == "__main__":
    run(dict(globals()))
