"""Memory does not depend on how many rows there are, nor on the size of row groups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretell.app.batching.jobs import package_of
from foretell.transports.batch import dataset
from foretell.transports.batch.job import BatchOptions
from foretell.transports.batch.preparing import prepare
from foretell.transports.batch.reading.columnar import ParquetReader

pytestmark = pytest.mark.slow

# The small one has all pieces under way that a job may have. With fewer rows it is below its peak.
SMALL, LARGE = 1_500_000, 11_000_000


MEASURED = """
import atexit, re, sys
from foretell.app.cli import main

def tell():
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

atexit.register(tell)
main(sys.argv[1:])
"""


def peak_mib(repository: Path, data: Path, output: Path) -> float:
    """What `foretell batch` takes at most, resident; what its parent takes is not in it."""
    arguments = ["batch", repository, data, output, "--threads", "2", "--quiet"]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ended.stdout) / 1024


def table(rows: int) -> pa.Table:
    draw = np.random.default_rng(1)
    words = pa.array(["basic", "plus", "prö"])
    plan = pa.DictionaryArray.from_arrays(draw.integers(0, 3, rows, dtype=np.int32), words)
    columns = {
        "id": np.arange(rows),
        "usage": draw.normal(10, 3, rows),
        "plan": plan.cast(pa.string()),
        "active": draw.random(rows) < 0.5,
    }
    return pa.table(columns)


def test_peak_memory_is_the_same_for_few_rows_and_many(repository: Path, tmp_path: Path) -> None:
    peaks = []
    for rows in (SMALL, LARGE):
        path = tmp_path / f"{rows}.parquet"
        pq.write_table(table(rows), path, row_group_size=rows)
        peaks.append(peak_mib(repository, path, tmp_path / f"out-{rows}"))
    small, large = peaks
    assert large < small * 1.15, peaks
    assert large < 500


def test_long_texts_make_pieces_of_fewer_rows(repository: Path, tmp_path: Path) -> None:
    rows, peaks = 40_000, []
    for length in (10, 5000):
        texts = np.array(["x" * length]).repeat(rows)
        told = table(rows).append_column("document", pa.array(texts))
        path = tmp_path / f"{length}.parquet"
        pq.write_table(told, path, use_dictionary=False)
        peaks.append(peak_mib(repository, path, tmp_path / f"out-{length}"))
    short, long = peaks
    assert long - short < 250, peaks  # with all of them in one piece: 490


def test_a_footer_tells_how_wide_texts_and_lists_are(tmp_path: Path) -> None:
    numbers, texts = pa.list_(pa.float64()), pa.string()
    schema = pa.schema(
        [
            ("a", pa.struct([("b", texts), ("c", texts)])),
            ("a.b", texts),
            ("a.b.c", numbers),
            ("id", pa.int64()),
        ]
    )
    with pq.ParquetWriter(tmp_path / "in.parquet", schema, use_dictionary=False) as writer:
        for rows, length in ((0, 0), (50, 1), (50, 100), (50, 10)):
            text = "x" * length
            row = {"a": {"b": text, "c": text}, "a.b": text, "a.b.c": [0.5] * 20, "id": 1}
            writer.write_table(pa.Table.from_pylist([row] * rows, schema))
    (source,) = dataset.find(str(tmp_path))
    widths = ParquetReader().look(source).widths
    assert widths.keys() == {"a", "a.b", "a.b.c"}
    assert 200 < widths["a"] < 220  # four bytes for the length of each
    assert 100 < widths["a.b"] < 110  # in the widest of the row groups
    assert widths["a.b.c"] == 160


def test_a_footer_does_not_tell_how_wide_a_text_is_that_is_written_once(tmp_path: Path) -> None:
    rows = 10_000
    columns = {
        "same": ["x" * 5000] * rows,
        "in lists": [["x" * 5000]] * rows,
        "other": [f"{number:0400d}" for number in range(rows)],
        "word": ["yes"] * rows,
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    (source,) = dataset.find(str(tmp_path))
    widths = ParquetReader().look(source).widths
    assert "in lists" not in widths
    assert widths["word"] == widths["same"] == 4  # which stay dictionaries
    assert widths["other"] > 400  # written one by one, since so many make no dictionary


def test_the_file_with_the_longest_texts_makes_the_pieces(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, length in enumerate((1, 50_000, 1)):
        texts = pa.array([[f"{row}" * length] for row in range(50)])
        told = table(50).append_column("documents", texts)
        pq.write_table(told, tmp_path / "in" / f"{number}.parquet")
    package = package_of(repository)
    prepared = prepare(package, str(tmp_path / "in"), str(tmp_path / "out"), BatchOptions())
    assert prepared.batch_rows == 128  # of some 90 kB, 16 MiB


@pytest.mark.parametrize(("value", "rows"), [([0.5] * 4, 131_072), (["x"], 32_768)])
def test_pieces_are_small_where_no_footer_tells_how_wide_they_are(
    repository: Path, tmp_path: Path, value: list[object], rows: int
) -> None:
    told = table(1000).append_column("lists", pa.array([value] * 1000))
    pq.write_table(told, tmp_path / "in.parquet")
    package = package_of(repository)
    prepared = prepare(package, str(tmp_path / "in.parquet"), str(tmp_path / "out"), BatchOptions())
    assert prepared.batch_rows == rows
