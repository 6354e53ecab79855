"""The model alone: one call of ONNX Runtime on a matrix that is ready, in one process.

The matrix is in the graph's dtype and the runtime has one thread, as in the server. Nothing is
read, checked or written. Run by the harness (see `Script`):

    BODY=body ANSWER=answer.json SECONDS=3 python -m benchmarks.model_alone model.onnx

In every protocol, a body ends with the bytes of its one FP32 tensor; the rest is passed over.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.lower_bound import timed

TENSOR_BYTES = 2**20
_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


def main() -> None:
    """Predict the rows in the body, and print what that takes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    (matrix,) = session.get_inputs()
    raw = Path(os.environ["BODY"]).read_bytes()[-TENSOR_BYTES:]
    rows = np.frombuffer(raw, np.float32).reshape(-1, matrix.shape[1])
    feed = {matrix.name: rows.astype(_DTYPES[matrix.type])}

    def predict() -> Any:
        return session.run(None, feed)

    labels, probabilities = predict()
    answer = {
        "prediction": labels.reshape(-1).tolist(),  # a column, in some graphs
        "probability": probabilities.tolist(),
    }
    Path(os.environ["ANSWER"]).write_text(json.dumps(answer))
    print(json.dumps(timed(predict, float(os.environ["SECONDS"]))))


if __name__ == "__main__":
    main()
