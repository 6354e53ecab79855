"""Files of every form with the same rows, and what a job wrote, read back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

FORMS = ("parquet", "csv", "csv.gz", "ndjson", "ndjson.gz", "arrow", "ipc", "feather")


def write(table: pa.Table, path: Path) -> Path:
    """`table` in the form that the path tells; `.ipc` is a stream, `.arrow` a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = path.name.partition(".")[2]
    if form == "parquet":
        pq.write_table(table, path, row_group_size=40)
    elif form == "feather":
        pa.feather.write_feather(table, path)
    elif form == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, 30)
    elif form == "ipc":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, 30)
    else:
        body = _csv(table) if form.startswith("csv") else _ndjson(table)
        path.write_bytes(gzip.compress(body) if form.endswith("gz") else body)
    return path


def _csv(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    pa.csv.write_csv(table, out)
    return out.getvalue().to_pybytes()  # type: ignore[no-any-return] # pyarrow has no types


def _ndjson(table: pa.Table) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False, default=str) for row in table.to_pylist())
    return "".join(f"{line}\n" for line in lines).encode()


def written(output: Path) -> pa.Table:
    """All rows of an output folder of Parquet, in order of its files."""
    files = sorted(path for path in output.rglob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in files])


def answers(table: pa.Table) -> list[dict[str, Any]]:
    """What a job added, but for the time."""
    names = ["prediction", "probability", "model_version"]
    rows: list[dict[str, Any]] = table.select(names).to_pylist()
    return rows


def about(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows`, with probabilities to the last bits: ONNX Runtime's depend on the rows beside."""
    return [row | {"probability": pytest.approx(row["probability"], rel=1e-14)} for row in rows]
