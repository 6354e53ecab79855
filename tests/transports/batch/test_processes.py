"""A model that computes in Python gets a process for each worker, so that all cores work."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.packing import pack

MODEL = """
import sys
from pathlib import Path
from foretell import Field, Signature

class Model:
    signature = Signature((Field("x", "FP64"),), (Field("prediction", "FP64"),), example=(2.0,))

    def predict(self, columns):
        values = []
        for value in columns["x"].tolist():
            total = 0.0
            for number in range(ROUNDS):
                total += number * value
            values.append(float(Path(sys.argv[0]).name == "child.py"))
        return values
"""


def scored(tmp_path: Path, rounds: int, threads: int) -> set[float]:
    """What the model told of each row: 1.0 where it ran in a process of its own."""
    (tmp_path / "looping.py").write_text(MODEL.replace("ROUNDS", str(rounds)))
    package = pack(["looping:Model"], repository=tmp_path / "models", python_path=tmp_path)
    pq.write_table(pa.table({"x": [1.0] * 3000}), tmp_path / "in.parquet", row_group_size=500)
    foretell.batch(
        package, tmp_path / "in.parquet", tmp_path / "out.parquet", threads=threads, batch_rows=500
    )
    return set(pq.read_table(tmp_path / "out.parquet")["prediction"].to_pylist())


@pytest.mark.slow
def test_a_model_that_keeps_the_interpreter_runs_in_processes(tmp_path: Path) -> None:
    assert scored(tmp_path, rounds=300, threads=2) == {1.0}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    assert not [name for name in names if b"executors.child" in name]


def test_one_worker_needs_no_process(tmp_path: Path) -> None:
    assert scored(tmp_path, rounds=30, threads=1) == {0.0}
