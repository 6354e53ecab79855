"""The lower bound: what a request for many rows cannot do without, in one process.

Decode the body with msgspec's typed decoder, make one float64 matrix of its rows, run the
graph once, encode the answer: no HTTP, no event loop, no checks, one thread. Of the plain ways
to make the matrix the fastest of those tried is taken. Run by the harness (see `Script`):

    BODY=body.json ANSWER=answer.json SECONDS=3 python -m benchmarks.lower_bound model.onnx
"""

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from benchmarks import processes
from benchmarks.percentiles import percentile

WARM_UPS = 3


class Row(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A customer, by name."""

    age: float
    tenure: int
    monthly_charges: float
    total_charges: float


class Objects(msgspec.Struct):
    """A body of rows by name."""

    instances: list[Row]


class Arrays(msgspec.Struct):
    """A body of rows in the order of the inputs."""

    instances: list[tuple[float, int, float, float]]


def answering(graph: Path, body: bytes) -> Callable[[], bytes]:
    """What answers `body` once, with the ONNX file `graph`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (matrix,) = (part.name for part in session.get_inputs())
    by_name = b"[[" not in body[:32]
    body_type: Any = Objects if by_name else Arrays
    decode = msgspec.json.Decoder(body_type).decode
    encode = msgspec.json.Encoder().encode

    def answer() -> bytes:
        rows = decode(body).instances
        flat = chain.from_iterable(map(msgspec.structs.astuple, rows) if by_name else rows)
        table = np.fromiter(flat, np.float64, 4 * len(rows)).reshape(-1, 4)
        labels, probabilities = session.run(None, {matrix: table})
        return encode(
            {
                "predictions": labels.reshape(-1).tolist(),  # a column, in some graphs
                "probabilities": probabilities.tolist(),
                "model_version": "1.0.0",
            }
        )

    return answer


def timed(work: Callable[[], object], seconds: float) -> dict[str, Any]:
    """What doing `work` again and again took, in the words of post.lua."""
    for _ in range(WARM_UPS):
        work()
    took: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    while not took or time.perf_counter() - began < seconds:
        before = time.perf_counter()
        work()
        took.append(time.perf_counter() - before)
    return {
        "requests": len(took),
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - used,
        **{f"p{share}_us": percentile(took, share) * 1e6 for share in (50, 90, 99)},
        "rss_mib": processes.largest_rss_mib(os.getpid()),
        "refused": 0,
        "broken": 0,
    }


def main() -> None:
    """Answer the body, and print what that takes."""
    answer = answering(Path(sys.argv[1]), Path(os.environ["BODY"]).read_bytes())
    Path(os.environ["ANSWER"]).write_bytes(answer())
    print(json.dumps(timed(answer, float(os.environ["SECONDS"]))))


if __name__ == "__main__":
    main()
