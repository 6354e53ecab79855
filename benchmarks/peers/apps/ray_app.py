"""Ray Serve: one replica behind its proxy, with @serve.batch.

The script starts Ray, waits, and shuts it down on SIGTERM.
"""

# mypy: ignore-errors
# Ray is installed in an environment of its own, not where mypy runs.

import os
import signal
import sys
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

from benchmarks.peers.apps import churn


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Churn:
    """The replica; Ray's proxy hands it each request."""

    def __init__(self) -> None:
        self.model = churn.load()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.01)
    async def predict(self, customers: list[Any]) -> list[dict[str, Any]]:
        return churn.answers(self.model, customers)

    async def __call__(self, request: Request) -> dict[str, Any]:
        return await self.predict(await request.json())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        object_store_memory=200 * 2**20,
        _temp_dir=os.environ["RAY_FOLDER"],
    )
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=churn.port()))
    serve.run(
        Churn.bind(),
        route_prefix="/predict",
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()
