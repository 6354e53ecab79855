"""One piece of batch work in a process of its own: it prints what it measured, as a JSON line.

    python -m benchmarks.batch_work foretell PACKAGE IN.parquet OUT THREADS
    python -m benchmarks.batch_work recipe MODEL.pkl IN.parquet OUT.parquet
    python -m benchmarks.batch_work read|predict|write PACKAGE IN.parquet OUT.parquet

`recipe` is what people write: chunks as pandas DataFrames, scikit-learn's predict and
predict_proba, and a Parquet file of it all. `read`, `predict` and `write` are the three parts of a
job, each alone: pyarrow reading all columns, the loaded package answering batches that were made
before, pyarrow writing what a job writes, with its own defaults.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CHUNK_ROWS = 100_000
_PREDICTED_ROWS = 2048
_MOST_ROWS = 1_000_000


def _foretell(package: str, data: str, output: str, threads: str) -> tuple[int, float, float]:
    import onnxruntime  # noqa: F401 - libraries are loaded before the clock starts
    import pandas  # noqa: F401, ICN001 - pyarrow loads it

    from foretell import batch

    with _Clock() as clock:
        report = batch(package, data, output, threads=int(threads))
    return report.rows_scored, *clock.told()


def _recipe(model: str, data: str, output: str) -> tuple[int, float, float]:
    import joblib

    trained = joblib.load(model)
    names = list(trained.feature_names_in_)
    writer: Any = None
    rows = 0
    with _Clock() as clock:
        for batch in pq.ParquetFile(data).iter_batches(batch_size=CHUNK_ROWS):
            frame = batch.to_pandas()
            inputs = frame[names]
            frame["prediction"] = trained.predict(inputs)
            frame["probability"] = trained.predict_proba(inputs)[:, 1]
            table = pa.Table.from_pandas(frame, preserve_index=False)
            writer = writer or pq.ParquetWriter(output, table.schema)
            writer.write_table(table)
            rows += len(frame)
        writer.close()
    return rows, *clock.told()


def _read(_package: str, data: str, _output: str) -> tuple[int, float, float]:
    rows = 0
    with _Clock() as clock:
        for batch in pq.ParquetFile(data).iter_batches(use_threads=False):
            rows += batch.num_rows
    return rows, *clock.told()


def _predict(package: str, data: str, _output: str) -> tuple[int, float, float]:
    from foretell.core.batch import Batch
    from foretell.engine import fleet, repository
    from foretell.engine.executors.choosing import ExecutorKind
    from foretell.transports.batch.scoring.scorer import accepted

    found = repository.read(Path(package))
    loaded = fleet.load(found, kind=ExecutorKind.THREAD).for_bulk(_PREDICTED_ROWS)
    fields = loaded.signature.inputs
    made = []
    for batch in _batches(data, [field.name for field in fields]):
        columns = [accepted(field, batch.column(field.name)) for field in fields]
        made.append(Batch.from_columns(fields, columns))
    with _Clock() as clock:
        for one in made:
            loaded.predict(one)
    return sum(map(len, made)), *clock.told()


def _batches(data: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in pq.ParquetFile(data).iter_batches(_PREDICTED_ROWS, columns=columns):
        yield batch
        rows += batch.num_rows
        if rows >= _MOST_ROWS:
            return


def _write(package: str, data: str, output: str) -> tuple[int, float, float]:
    import foretell

    foretell.batch(package, data, f"{output}.job", limit=_MOST_ROWS, part_rows=_MOST_ROWS)
    table = pa.concat_tables(
        [pq.read_table(path) for path in sorted(Path(f"{output}.job").rglob("*.parquet"))]
    )
    with _Clock() as clock:
        pq.write_table(table, output)
    return table.num_rows, *clock.told()


class _Clock:
    """Wall and CPU seconds of a `with` block."""

    def __enter__(self) -> _Clock:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._end = time.perf_counter(), time.process_time()

    def told(self) -> tuple[float, float]:
        return self._end[0] - self._start[0], self._end[1] - self._start[1]


WAYS: dict[str, Callable[..., tuple[int, float, float]]] = {
    "foretell": _foretell,
    "recipe": _recipe,
    "read": _read,
    "predict": _predict,
    "write": _write,
}


def main(argv: list[str]) -> None:
    way, *arguments = argv
    rows, wall_s, cpu_s = WAYS[way](*arguments)
    told = {"rows": rows, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": _peak_mib()}
    print(json.dumps(told))


def _peak_mib() -> float:
    """The most that this process had resident; getrusage would count in what started it."""
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(peak) / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
