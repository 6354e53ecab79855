"""Pieces of one part that come in different ways, and those of a job that goes on."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import foretell
from foretell.transports.batch.reading.pieces import Piece
from foretell.transports.batch.scoring.scorer import Scored, Scorer
from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import write, written


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


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson", "arrow", "ipc"])
def test_a_job_that_goes_on_scores_the_pieces_that_it_would_have_scored(
    repository: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(arrow(200), tmp_path / f"in.{form}")
    pieces: set[tuple[int, int]] = set()
    score = Scorer.score

    def scored(self: Scorer, piece: Piece) -> Scored:
        pieces.add((piece.start, piece.n_rows))
        return score(self, piece)

    def scored_now() -> set[tuple[int, int]]:
        pieces.clear()
        foretell.batch(repository, path, tmp_path / "out", part_rows=33, batch_rows=10, threads=1)
        return set(pieces)

    monkeypatch.setattr(Scorer, "score", scored)
    every = scored_now()
    for part in sorted((tmp_path / "out").glob("part-*"))[2:]:
        part.unlink()
    again = scored_now()
    assert again < every
    assert sum(rows for _, rows in again) < 200
