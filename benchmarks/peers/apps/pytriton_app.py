"""Triton through PyTriton: the model is a Python function bound to NVIDIA's server.

The wheel's Triton has the Python backend only, so the ONNX file, too, is run by ONNX Runtime
in that function.
"""

# mypy: ignore-errors
# PyTriton is installed in an environment of its own, not where mypy runs.

import os
import signal
import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.apps import churn

model = churn.load()


@batch
def predict(rows: Any) -> dict[str, Any]:
    """A batch, joined by Triton."""
    labels, probabilities = model(rows)
    return {"prediction": labels[:, None], "probability": probabilities}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=churn.port(),
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config, workspace=os.environ["TRITON_FOLDER"]) as triton:
        triton.bind(
            model_name="churn",
            infer_func=predict,
            inputs=[Tensor(name="rows", dtype=np.float64, shape=(4,))],
            outputs=[
                Tensor(name="prediction", dtype=np.int64, shape=(1,)),
                Tensor(name="probability", dtype=np.float64, shape=(2,)),
            ],
            config=ModelConfig(
                max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=100)
            ),
        )
        triton.run()
        signal.pause()
