"""What does not fit is found before work begins, all of it at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.errors import InvalidInput
from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import write, written

pytestmark = pytest.mark.slow

INPUTS = ["usage", "plan", "active"]


def refused(repository: Path, data: Path, output: Path, **options: Any) -> str:
    with pytest.raises(InvalidInput) as told:
        foretell.batch(repository, data, output, **options)
    assert not output.exists(), "nothing is begun"
    return told.value.message


def test_all_problems_of_all_files_are_told_at_once(repository: Path, tmp_path: Path) -> None:
    table = arrow(5)
    wrong = table.rename_columns(["id", "Usage", "plan", "active", "prediction"])
    wrong = wrong.set_column(2, "plan", pa.array([1, 2, 3, 4, 5]))
    wrong = wrong.set_column(3, "active", pa.array(["yes"] * 5))
    for number in range(3):
        write(wrong, tmp_path / "in" / f"{number}.parquet")
    write(wrong.set_column(0, "id", pa.array(["a"] * 5)), tmp_path / "in" / "3.parquet")
    told = refused(repository, tmp_path / "in", tmp_path / "out")
    assert told.startswith("the input does not fit the model:\n  - ")
    assert "column 'usage' is missing; --columns usage=Usage would take that" in told
    assert "column 'plan' is int64, but must be a string or null; cast it" in told
    assert "column 'active' is string, but must be true or false; cast it" in told
    assert "column 'prediction' has the name of an answer" in told
    assert re.search(r"column 'id' is string, but int64 in .*0.parquet \(in .*3.parquet\)", told)
    assert told.count("\n") == 5
    assert "0.parquet and 3 other files" in told


def test_one_file_is_not_told_of_as_several(repository: Path, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([*arrow(5).columns[1:], arrow(5)["note"]], [*INPUTS, "x", "x"])
    write(table, tmp_path / "in.parquet")
    told = refused(repository, tmp_path / "in.parquet", tmp_path / "out")
    assert told == f"two columns are called 'x'; rename one (in {tmp_path}/in.parquet)"


def test_a_folder_named_as_an_answer_is_refused(repository: Path, tmp_path: Path) -> None:
    write(arrow(5), tmp_path / "in" / "prediction=1" / "a.parquet")
    told = refused(repository, tmp_path / "in", tmp_path / "out")
    assert told.startswith("the folder prediction=1 has the name of an answer; rename it")
    foretell.batch(repository, tmp_path / "in", tmp_path / "out.parquet", keep=["id"])


def test_times_and_decimals_are_not_taken_for_numbers(repository: Path, tmp_path: Path) -> None:
    usage = pa.array([1, 2, 3, 4, 5]).cast(pa.timestamp("us"))
    pq.write_table(arrow(5).set_column(1, "usage", usage), tmp_path / "in.parquet")
    told = refused(repository, tmp_path / "in.parquet", tmp_path / "out")
    assert told.startswith("column 'usage' is timestamp[us], but must be a number or null; cast it")


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_columns_map_inputs_to_other_names(repository: Path, tmp_path: Path, form: str) -> None:
    table = arrow(20)
    write(table, tmp_path / f"a.{form}")
    other = table.rename_columns(["id", "Verbrauch (m³)", "tarif", "active", "note"])
    write(other, tmp_path / f"b.{form}")
    foretell.batch(repository, tmp_path / f"a.{form}", tmp_path / "out")
    foretell.batch(
        repository,
        tmp_path / f"b.{form}",
        tmp_path / "mapped",
        columns={"usage": "Verbrauch (m³)", "plan": "tarif"},
    )
    one, two = written(tmp_path / "out"), written(tmp_path / "mapped")
    assert one["probability"].to_pylist() == two["probability"].to_pylist()
    assert "Verbrauch (m³)" in two.column_names


def test_names_that_are_not_there_are_told_with_the_nearest(
    repository: Path, tmp_path: Path
) -> None:
    write(arrow(5), tmp_path / "in.parquet")
    told = refused(
        repository,
        tmp_path / "in.parquet",
        tmp_path / "out",
        columns={"usge": "id"},
        keep=["nota"],
    )
    assert "--columns names 'usge', which is no input of the model; did you mean 'usage'?" in told
    assert "--keep names 'nota', but there is no such column; did you mean 'note'?" in told


def test_columns_with_one_name_are_refused_where_they_matter(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("usage,plan,active,note,note\n1.5,basic,true,a,b\n")
    told = refused(repository, tmp_path / "in.csv", tmp_path / "out")
    assert told.startswith("two columns are called 'note'; rename one")
    report = foretell.batch(repository, tmp_path / "in.csv", tmp_path / "out", keep=["usage"])
    assert report.rows_scored == 1


def test_a_missing_column_of_a_later_file_is_told(repository: Path, tmp_path: Path) -> None:
    write(arrow(5), tmp_path / "in" / "a.csv")
    write(arrow(5).drop_columns(["note"]), tmp_path / "in" / "b.csv")
    write(arrow(5).append_column("more", pa.array([1] * 5)), tmp_path / "in" / "c.csv")
    told = refused(repository, tmp_path / "in", tmp_path / "out")
    assert "column 'note' is missing (in" in told
    assert "column 'more' is not in" in told
    foretell.batch(repository, tmp_path / "in", tmp_path / "out", keep=["id"])


def test_ndjson_files_with_other_keys_and_wider_numbers_come_together(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    rows = [
        '{"active": true, "usage": 1, "plan": "plus", "score": 1}',
        '{"active": true, "usage": 1.5, "plan": "plus", "score": 2.5, "more": "x"}',
    ]
    for number, row in enumerate(rows):
        (tmp_path / "in" / f"{number}.ndjson").write_text(row)
    foretell.batch(repository, tmp_path / "in", tmp_path / "out")
    got = written(tmp_path / "out")
    assert got.select(["usage", "score", "more"]).to_pylist() == [
        {"usage": 1.0, "score": 1.0, "more": None},
        {"usage": 1.5, "score": 2.5, "more": "x"},
    ]


def test_what_the_form_of_the_output_cannot_hold_is_told_before(
    repository: Path, tmp_path: Path
) -> None:
    table = arrow(5).append_column("tags", pa.array([["a"]] * 5))
    pq.write_table(table, tmp_path / "in.parquet")
    told = refused(repository, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert told.startswith("column 'tags' is list<element: string>, which csv cannot hold")
    foretell.batch(repository, tmp_path / "in.parquet", tmp_path / "out.ndjson")


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("a.parquet", b"PAR1nonsense", "is not readable as Parquet"),
        ("a.arrow", b"nonsense", "is not readable as Arrow"),
        ("a.feather", b"FEA1nonsense", "Feather's first version"),
        ("a.csv", b"usage,\xff\n", "line of names is not CSV"),
    ],
)
def test_files_that_are_not_what_they_are_called_are_refused_by_name(
    repository: Path, tmp_path: Path, name: str, body: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(body)
    told = refused(repository, tmp_path / name, tmp_path / "out")
    assert words in told
    assert str(tmp_path / name) in told
