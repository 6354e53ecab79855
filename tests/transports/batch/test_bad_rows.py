"""Bad rows: each is told with its file, number, column and reason, and no other row suffers."""

from __future__ import annotations

import gc
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.core.batch import Batch
from foretell.core.field import Datatype, Field
from foretell.core.signature import Signature
from foretell.engine.executors import ProcessDied
from foretell.errors import InvalidInput, ModelFailed
from foretell.transports.batch.reading import ndjson_files
from foretell.transports.batch.reading.columnar import piece_of
from foretell.transports.batch.reading.pieces import Feed, Wanted
from foretell.transports.batch.scoring.answers import Answers
from foretell.transports.batch.scoring.scorer import Scored, Scorer
from tests.transports.batch.files import written

HEADER = "id,usage,plan,active\n"


def quarantined(output: Path) -> list[dict[str, Any]]:
    files = sorted((output / "_quarantine").glob("*.ndjson"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def spoilt_csv(rows: int, wrong: dict[int, str]) -> str:
    good = "{0},{0}.5,basic,true"
    return HEADER + "".join(wrong.get(n, good.format(n)) + "\n" for n in range(rows))


WRONG_CSV = {
    3: "3,many,basic,true",  # no number
    7: "7,1.0",  # too few
    11: "11,1.0,basic,perhaps",  # no boolean
    12: "12,1e999,basic,true",  # beyond all bounds
    20: '20,1.0,"ba\nsic",true,5,6',  # too many, over two lines
    21: "21,1.0,basic,",  # missing where nothing may be missing
    39: "39,inf,basic,true",
}
LOST = ["7", "20"]


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("part_rows", [1000, 6])
def test_bad_rows_of_csv_are_quarantined_and_the_others_are_scored(
    repository: Path, tmp_path: Path, packed: bool, part_rows: int
) -> None:
    body = spoilt_csv(40, WRONG_CSV).encode()
    path = tmp_path / ("in.csv.gz" if packed else "in.csv")
    path.write_bytes(gzip.compress(body) if packed else body)
    report = foretell.batch(
        repository,
        path,
        tmp_path / "out",
        on_bad_row="quarantine",
        part_rows=part_rows,
        batch_rows=4,
    )
    assert (report.rows_in, report.rows_scored, report.bad_rows) == (40, 33, 7)
    assert [int(n) for n in written(tmp_path / "out")["id"].to_pylist()] == [
        n for n in range(40) if n not in WRONG_CSV
    ]
    bad = quarantined(tmp_path / "out")
    assert [line["row"] for line in bad] == list(WRONG_CSV)
    assert {line["file"] for line in bad} == {str(path)}
    told = {line["row"]: (line["column"], line["error"], line["data"]) for line in bad}
    assert told[3][:2] == ("usage", "'usage' is \"many\", but must be a number or null")
    assert told[3][2] == {"id": "3", "usage": "many", "plan": "basic", "active": "true"}
    assert told[7] == (None, "has 2 values, but there are 4 columns", "7,1.0")
    assert told[11][0] == "active"
    assert told[12][0] == "usage"
    assert told[21][1] == "'active' is null, but must be true or false"
    assert told[39][1] == "'usage' is \"inf\", but must be a number or null"


@pytest.mark.slow
def test_bytes_that_are_no_text_are_told_of(repository: Path, tmp_path: Path) -> None:
    body = spoilt_csv(5, {}).encode().replace(b"2.5,basic", b"2.5,b\xe4sic")
    (tmp_path / "in.csv").write_bytes(body)
    report = foretell.batch(
        repository, tmp_path / "in.csv", tmp_path / "out", on_bad_row="quarantine"
    )
    assert report.rows_scored == 4
    (bad,) = quarantined(tmp_path / "out")
    assert (bad["row"], bad["column"]) == (2, "plan")
    assert "not UTF-8" in bad["error"]


@pytest.mark.slow
def test_bad_lines_of_ndjson_are_quarantined(repository: Path, tmp_path: Path) -> None:
    def line(number: int, **other: Any) -> str:
        row = {"id": number, "usage": number, "plan": "plus", "active": True, "extra": 1} | other
        return json.dumps(row)

    lines = [line(n) for n in range(12)]
    lines[2] = "{not json"
    lines[4] = "[1, 2]"
    lines[5] = line(5, usage="many")
    lines[6] = line(6, extra="text")
    lines[8] = line(8).replace("8,", "NaN,", 2)
    lines.insert(9, "")  # which does not count
    (tmp_path / "in.ndjson").write_text("\n".join(lines))
    report = foretell.batch(
        repository, tmp_path / "in.ndjson", tmp_path / "out", on_bad_row="quarantine"
    )
    bad = quarantined(tmp_path / "out")
    assert [line["row"] for line in bad] == [2, 4, 5, 6, 8]
    assert [line["column"] for line in bad] == [None, None, "usage", "extra", None]
    assert bad[1]["error"] == "is an array of 2, but must be an object"
    assert bad[0]["data"] == "{not json"
    assert report.rows_scored == 7


@pytest.mark.slow
def test_a_key_that_the_first_rows_did_not_have_is_not_lost_in_silence(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson_files, "_BLOCK_BYTES", 100)
    lines = ['{"usage": 1, "plan": "plus", "active": true}'] * 9
    lines[7] = '{"usage": 1, "plan": "plus", "active": true, "other": 1}'
    (tmp_path / "in.ndjson").write_text("\n".join(lines))
    arguments = (repository, tmp_path / "in.ndjson")
    with pytest.raises(InvalidInput, match='row 7: has "other", which is not among the columns'):
        foretell.batch(*arguments, tmp_path / "out")
    report = foretell.batch(*arguments, tmp_path / "kept", keep=["usage"])
    assert report.rows_scored == 9


@pytest.mark.slow
def test_a_key_that_is_not_there_is_a_missing_value(repository: Path, tmp_path: Path) -> None:
    lines = ['{"active": true}', '{"active": false, "usage": 1.5, "plan": "plus"}', "{}"]
    (tmp_path / "in.ndjson").write_text("\n".join(lines))
    report = foretell.batch(
        repository, tmp_path / "in.ndjson", tmp_path / "out", on_bad_row="quarantine"
    )
    assert report.rows_scored == 2
    assert written(tmp_path / "out")["usage"].to_pylist() == [None, 1.5]
    assert [line["column"] for line in quarantined(tmp_path / "out")] == ["active"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["skip", "quarantine"])
def test_bad_values_of_parquet_are_left_out(repository: Path, tmp_path: Path, mode: str) -> None:
    usage = np.arange(100.0)
    usage[[5, 50]] = np.inf
    active = pa.array([None if n == 70 else True for n in range(100)])
    table = pa.table({"usage": usage, "plan": ["basic"] * 100, "active": active})
    pq.write_table(table, tmp_path / "in.parquet")
    report = foretell.batch(
        repository, tmp_path / "in.parquet", tmp_path / "out", on_bad_row=mode, batch_rows=30
    )
    assert (report.rows_scored, report.bad_rows) == (97, 3)
    got = written(tmp_path / "out")["usage"].to_pylist()
    assert got == [float(n) for n in range(100) if n not in (5, 50, 70)]
    if mode == "skip":
        assert not (tmp_path / "out" / "_quarantine").exists()
    else:
        assert [line["row"] for line in quarantined(tmp_path / "out")] == [5, 50, 70]


@pytest.mark.slow
def test_the_first_bad_row_ends_the_job_unless_it_is_to_go_on(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(spoilt_csv(40, {30: WRONG_CSV[3], 35: WRONG_CSV[7]}))
    with pytest.raises(InvalidInput) as told:
        foretell.batch(
            repository, tmp_path / "in.csv", tmp_path / "out", part_rows=10, batch_rows=5, threads=1
        )
    assert told.value.row == 30
    assert told.value.field == "usage"
    assert f"{tmp_path / 'in.csv'}, row 30: 'usage' is \"many\"" in told.value.message
    assert "--on-bad-row" in told.value.message
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    left = [path.name for path in (tmp_path / "out").iterdir() if "part" in path.name]
    assert sorted(left) == [f"part-00000-{n:05}.parquet" for n in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson", "arrow"])
def test_a_job_that_ends_amid_a_part_leaves_nothing_of_it_and_says_no_more(
    repository: Path, tmp_path: Path, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text(spoilt_csv(40, {30: WRONG_CSV[3]}))
    with pytest.raises(InvalidInput):
        foretell.batch(
            repository,
            tmp_path / "in.csv",
            tmp_path / "out",
            batch_rows=5,
            row_group_rows=10,
            format=form,
        )
    gc.collect()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["_foretell"]
    assert capfd.readouterr().err == ""


X = Field("x", Datatype.FP64, nullable=True)
SIGNATURE = Signature((X,), (Field("prediction", Datatype.FP64),))


class Picky:
    """A model that raises for some rows, and counts how often it is asked."""

    def __init__(self, wrong: Sequence[float], error: BaseException | None = None) -> None:
        self.wrong = set(wrong)
        self.error = error or ValueError("no such x")
        self.asked = 0

    def predict(self, batch: Batch) -> Batch:
        self.asked += 1
        (column,) = batch.columns
        if self.wrong & set(column.tolist()):
            raise self.error
        return Batch.from_columns(SIGNATURE.outputs, [column * 2])


def scored(model: Picky, rows: int, **options: Any) -> Scored:
    wanted = Wanted((Feed(X, ("x",)),), pa.schema({"x": pa.float64()}))
    batch = pa.record_batch({"x": np.arange(float(rows))})
    answers = Answers(SIGNATURE, "1", datetime(2026, 1, 1, tzinfo=UTC))
    scorer = Scorer(SIGNATURE, model.predict, answers, close=lambda: None, **options)
    return scorer.score(piece_of(batch, wanted, 1000))


def test_rows_on_which_the_model_fails_are_found_among_thousands() -> None:
    model = Picky([3, 4, 4999])
    got = scored(model, 5000)
    assert [bad.row.row for bad in got.bad] == [1003, 1004, 5999]
    assert got.bad[0].row.reason == "the model failed: ValueError: no such x"
    assert got.bad[0].values is not None
    assert got.bad[0].values.to_pylist() == [{"x": 3.0}]
    assert got.table["prediction"].to_pylist() == [
        2.0 * n for n in range(5000) if n not in (3, 4, 4999)
    ]
    assert got.table["x"].to_pylist() == [float(n) for n in range(5000) if n not in (3, 4, 4999)]
    assert model.asked < 300


def test_when_one_bad_row_is_enough_no_other_is_looked_for() -> None:
    model = Picky(range(5000))
    got = scored(model, 5000, first_only=True)
    assert [bad.row.row for bad in got.bad] == [1000]
    assert model.asked < 200


def test_a_model_that_fails_on_every_row_leaves_none() -> None:
    got = scored(Picky(range(100)), 100)
    assert len(got.bad) == 100
    assert got.table.num_rows == 0
    assert got.table.schema.names == ["x", "prediction", "model_version", "predicted_at"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProcessDied("gone"), "the model failed on rows 1000 to 1099: gone"),
        (MemoryError(), "not enough memory for rows 1000 to 1099: give it fewer with --batch-rows"),
    ],
)
def test_what_no_row_is_to_blame_for_ends_the_job_with_a_sentence(
    error: Exception, told: str
) -> None:
    with pytest.raises(ModelFailed, match=told):
        scored(Picky([7], error), 100)


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt()])
def test_a_model_that_ends_the_process_makes_a_bad_row(error: BaseException) -> None:
    got = scored(Picky([7], error), 100)
    assert [bad.row.row for bad in got.bad] == [1007]
    assert type(error).__name__ in got.bad[0].row.reason
    assert got.table.num_rows == 99
