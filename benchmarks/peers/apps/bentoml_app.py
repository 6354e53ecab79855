"""BentoML: a service with a batchable API, one worker."""

# mypy: ignore-errors
# BentoML is installed in an environment of its own, not where mypy runs.

from typing import Any

import bentoml
import numpy as np

from benchmarks.peers.apps import churn


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": True})
class Churn:
    """BentoML validates the array, gathers batches by its own latency model, and encodes."""

    def __init__(self) -> None:
        self.model = churn.load()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def predict(self, rows: np.ndarray) -> list[dict[str, Any]]:
        labels, probabilities = self.model(rows)
        return [
            {"prediction": label, "probability": probability}
            for label, probability in zip(labels.tolist(), probabilities.tolist(), strict=True)
        ]
