"""Files that are not what their names say, or odd in ways that real files are."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

import foretell
from foretell.errors import InvalidInput, StoreFailed
from foretell.transports.batch.reading import csv_files
from foretell.transports.batch.reading.pieces import Piece
from foretell.transports.batch.scoring.scorer import Scored, Scorer
from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import write, written

HEADER = "id,usage,plan,active\n"
ROW = "{0},{0}.5,basic,true\n"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_blank_lines_before_the_names_do_not_count(
    repository: Path, tmp_path: Path, mark: str, line_end: str
) -> None:
    lines = mark + "\n\n" + HEADER + ROW.format(0) + "1,2\n" + ROW.format(2)
    (tmp_path / "in.csv").write_bytes(lines.replace("\n", line_end).encode())
    foretell.batch(repository, tmp_path / "in.csv", tmp_path / "out", on_bad_row="quarantine")
    assert written(tmp_path / "out")["id"].to_pylist() == ["0", "2"]
    (bad,) = (tmp_path / "out" / "_quarantine").iterdir()
    assert json.loads(bad.read_text())["row"] == 1


def test_a_row_of_csv_that_is_longer_than_a_block_is_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 1000)
    rows = [ROW.format(number) for number in range(500)]
    rows[300] = f'300,1.0,"{"long " * 1000}",true\n'
    rows[10] = "1,2\n"
    (tmp_path / "in.csv").write_text(HEADER + "".join(rows))
    report = foretell.batch(
        repository, tmp_path / "in.csv", tmp_path / "out", part_rows=70, on_bad_row="skip"
    )
    wanted = [str(number) for number in range(500) if number != 10]
    assert written(tmp_path / "out")["id"].to_pylist() == wanted
    assert (report.rows_in, report.bad_rows) == (500, 1)


def test_a_quote_that_nothing_closes_is_told(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(csv_files, "_MOST_ROW_BYTES", 2000)
    rows = "".join(ROW.format(number) for number in range(500))
    (tmp_path / "in.csv").write_text(HEADER + rows + '500,1.0,"basic,true\n' + rows)
    with pytest.raises(InvalidInput, match="is there a quote that nothing closes"):
        foretell.batch(repository, tmp_path / "in.csv", tmp_path / "out")


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("harm", ["none", "start", "middle", "cut"])
def test_a_broken_gzip_file_is_told(repository: Path, tmp_path: Path, form: str, harm: str) -> None:
    line = '{{"id":{0},"usage":{0}.5,"plan":"basic","active":true}}\n'
    head, line = (HEADER, ROW) if form == "csv" else ("", line)
    body = (head + "".join(line.format(number) for number in range(20_000))).encode()
    packed = bytearray(gzip.compress(body))
    place = {"start": 15, "middle": len(packed) // 2}.get(harm, 0)
    packed[place] ^= 0xFF
    packed[place + 1] ^= 0xFF
    if harm == "none":
        packed = bytearray(body)
    if harm == "cut":
        packed = bytearray(gzip.compress(body)[:20])
    (tmp_path / f"in.{form}.gz").write_bytes(packed)
    with pytest.raises(InvalidInput, match=rf"in.{form}.gz is not readable as "):
        foretell.batch(repository, tmp_path / f"in.{form}.gz", tmp_path / "out")


@pytest.mark.parametrize("column", ["plan", "note"])
@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_text_that_is_not_utf8_makes_a_bad_row(
    repository: Path, tmp_path: Path, column: str, coded: bool, form: str
) -> None:
    table = arrow(200)
    cells: list[bytes | None] = [b"basic", "prö".encode(), None, b"pr\xf6"] * 50
    binary = pa.array(cells, pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 200, binary.buffers())
    texts = texts.dictionary_encode() if coded else texts
    place = table.schema.get_field_index(column)
    path = write(table.set_column(place, column, texts), tmp_path / f"in.{form}")
    with pytest.raises(InvalidInput, match=rf"row 3: '{column}' is not UTF-8"):
        foretell.batch(repository, path, tmp_path / "failed")
    report = foretell.batch(repository, path, tmp_path / "out", on_bad_row="quarantine")
    got = written(tmp_path / "out")
    assert got[column].to_pylist() == ["basic", "prö", None] * 50
    assert (report.rows_scored, report.bad_rows) == (150, 50)
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "out" / "_quarantine").iterdir())
        for line in path.read_text().splitlines()
    ]
    assert [line["row"] for line in lines] == list(range(3, 200, 4))
    assert lines[0]["data"]["id"] == 3
    assert lines[0]["data"][column] == "pr\ufffd"


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz", "ndjson", "arrow", "ipc"])
@pytest.mark.parametrize("how", ["grows", "is cut"])
def test_a_file_that_is_written_to_while_it_is_read_ends_the_job(
    repository: Path, tmp_path: Path, form: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(arrow(200), tmp_path / f"in.{form}")
    score = Scorer.score

    def scored(self: Scorer, piece: Piece) -> Scored:
        if how == "grows":
            with path.open("ab") as file:
                file.write(b" ")
        else:
            os.truncate(path, 10)
        return score(self, piece)

    monkeypatch.setattr(Scorer, "score", scored)
    with pytest.raises(StoreFailed, match=f"in.{form} was written anew while the job ran"):
        foretell.batch(repository, path, tmp_path / "out", batch_rows=20, threads=1)
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(arrow(200), tmp_path / "in.csv")
    score = Scorer.score

    def scored(self: Scorer, piece: Piece) -> Scored:
        write(arrow(7), tmp_path / "new.csv").replace(path)
        return score(self, piece)

    monkeypatch.setattr(Scorer, "score", scored)
    foretell.batch(repository, path, tmp_path / "out", batch_rows=20, threads=1)
    assert written(tmp_path / "out").num_rows == 200
