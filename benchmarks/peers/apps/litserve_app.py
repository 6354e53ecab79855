"""LitServe: one worker process and one API server, with its dynamic batching."""

# mypy: ignore-errors
# LitServe is installed in an environment of its own, not where mypy runs.

from typing import Any

import litserve
import numpy as np

from benchmarks.peers.apps import churn


class Churn(litserve.LitAPI):
    """The five steps of a batched API, as its documentation has them."""

    def setup(self, device: str) -> None:
        self.model = churn.load()

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        return churn.row(request)

    def batch(self, inputs: list[list[float]]) -> Any:
        return np.array(inputs, np.float64)

    def predict(self, rows: Any) -> Any:
        return self.model(rows)

    def unbatch(self, output: Any) -> list[Any]:
        labels, probabilities = output
        return list(zip(labels.tolist(), probabilities.tolist(), strict=True))

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"prediction": output[0], "probability": output[1]}


if __name__ == "__main__":
    server = litserve.LitServer(
        Churn(max_batch_size=32, batch_timeout=0.01), accelerator="cpu", workers_per_device=1
    )
    server.run(
        host="127.0.0.1",
        port=churn.port(),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
