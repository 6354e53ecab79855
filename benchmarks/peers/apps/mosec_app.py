"""mosec: one worker process behind its Rust front, which gathers batches for it."""

# mypy: ignore-errors
# mosec is installed in an environment of its own, not where mypy runs.

from typing import Any

from mosec import Server, Worker

from benchmarks.peers.apps import churn


class Churn(Worker):
    """mosec decodes and encodes JSON; `forward` gets a batch when max_batch_size is above 1."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = churn.load()

    def forward(self, data: list[Any]) -> list[dict[str, Any]]:
        return churn.answers(self.predict, data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Churn, num=1, max_batch_size=32, max_wait_time=10, route="/predict")
    server.run()
