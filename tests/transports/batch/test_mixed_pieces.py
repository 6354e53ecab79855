"""Pieces of one part that come in different ways: few rows as texts, many as dictionaries."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import foretell
from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import written


@pytest.mark.parametrize("row_group_rows", [131_072, 64])
@pytest.mark.parametrize("rows", [129, 64 * 3 + 20])
def test_a_last_piece_of_few_rows_is_written_like_the_others(
    repository: Path, tmp_path: Path, rows: int, row_group_rows: int
) -> None:
    pq.write_table(arrow(rows), tmp_path / "in.parquet")
    foretell.batch(
        repository,
        tmp_path / "in.parquet",
        tmp_path / "out",
        batch_rows=64,
        row_group_rows=row_group_rows,
    )
    got = written(tmp_path / "out")
    assert set(got["prediction"].to_pylist()) == {"high", "low"}
    assert got["id"].to_pylist() == list(range(rows))
