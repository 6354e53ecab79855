"""A run apart is a graph's first, in a process of its own: one that ends it is found out there.

ONNX Runtime ends the process for some graphs that a generic converter makes (an assertion in a
kernel), which would end the packing of a model that another graph serves well.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Array, dense_datatype

LONGEST_S = 60.0
_PROGRAM = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level, options.intra_op_num_threads = 4, 1
session = onnxruntime.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
names = [part.name for part in session.get_inputs()]
with numpy.load(sys.argv[2]) as stored:
    tensors = [stored[f"arr_{place}"] for place in range(len(stored.files))]
for start in range(0, len(tensors), len(names)):
    session.run(None, dict(zip(names, tensors[start:start + len(names)])))
"""


def ends_its_process(model: bytes, batches: Iterable[Batch], folder: Path) -> str | None:
    """How a process that runs `model` on `batches` ends before its time; None when it does not.

    What the graph raises is no such end: who proves it hears the same.
    """
    try:
        tried = run_apart(model, batches, folder)
    except subprocess.TimeoutExpired:
        return f"running it takes more than {LONGEST_S:.0f} s"
    if tried.returncode < 0:
        return f"running it ends the process ({signal.Signals(-tried.returncode).name})"
    return None


def run_apart(
    model: bytes, batches: Iterable[Batch], folder: Path
) -> subprocess.CompletedProcess[bytes]:
    """A process that has run `model` on `batches`. Raises subprocess.TimeoutExpired."""
    path, points = folder / "apart.onnx", folder / "apart.npz"
    path.write_bytes(model)
    np.savez(points, *(tensor for batch in batches for tensor in _tensors(batch)))
    command = [sys.executable, "-I", "-c", _PROGRAM, str(path), str(points)]
    return subprocess.run(  # noqa: S603
        command, capture_output=True, check=False, timeout=LONGEST_S
    )


def _tensors(batch: Batch) -> list[Array]:
    if dense_datatype(batch.fields) is not None:
        return [batch.matrix]
    columns: list[Array] = []
    for field, column in zip(batch.fields, batch.columns, strict=True):
        dtype: Any = np.str_ if field.datatype is Datatype.BYTES else column.dtype
        columns.append(column.astype(dtype).reshape(-1, 1))
    return columns
