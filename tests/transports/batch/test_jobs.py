"""Whole jobs in this process: every form in, every form out, and each row once."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.errors import BadSettings, InvalidInput, JobRefused
from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import FORMS, about, answers, write, written

pytestmark = pytest.mark.slow

INPUTS = ["usage", "plan", "active"]


def expected(repository: Path, table: pa.Table) -> list[dict[str, Any]]:
    """What the loaded package itself answers."""
    model = foretell.load(repository)
    got = model.predict(table.select(INPUTS))
    rows = zip(got["prediction"].tolist(), got["probability"][:, 1].tolist(), strict=True)
    return about(
        [
            {"prediction": label, "probability": second, "model_version": "1.0.0"}
            for label, second in rows
        ]
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gets_the_answers_of_the_loaded_model(
    repository: Path, tmp_path: Path, form: str
) -> None:
    table = arrow(200)
    path = write(table, tmp_path / f"in.{form}")
    report = foretell.batch(repository, path, tmp_path / "out", part_rows=64, batch_rows=25)
    got = written(tmp_path / "out")
    assert answers(got) == expected(repository, table)
    assert got["id"].cast(pa.int64()).to_pylist() == list(range(200))
    assert got["note"].to_pylist() == table["note"].to_pylist()
    assert (report.rows_in, report.rows_scored, report.bad_rows) == (200, 200, 0)
    assert report.parts == (3 if form == "parquet" else 4)
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_parquet_keeps_the_types_of_carried_columns(repository: Path, tmp_path: Path) -> None:
    n = 50
    extra = {
        "when": pa.array([dt.datetime(2024, 1, 1, 1, 2, 3)] * n, pa.timestamp("ns", "UTC")),
        "day": pa.array([dt.date(2024, 1, 1)] * n),
        "price": pa.array([decimal.Decimal("1.10")] * n, pa.decimal128(10, 2)),
        "tags": pa.array([["a", "b"], [], None, ["ß"], ["c"]] * 10),
        "point": pa.array([{"x": 1, "y": None}] * n),
        "nullable": pa.array([1, None, 3, 4, 5] * 10, pa.int32()),
        "code": pa.array(["x", None, "y", "x", "z"] * 10).dictionary_encode(),
        "größe, m²": pa.array([1.5] * n, pa.float32()),
        "raw": pa.array([b"\xff"] * n),
        "small": pa.array([1] * n, pa.uint8()),
    }
    table = arrow(n)
    for name, column in extra.items():
        table = table.append_column(name, column)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=20)
    foretell.batch(repository, tmp_path / "in.parquet", tmp_path / "out", batch_rows=7)
    got = written(tmp_path / "out")
    assert got.select(table.column_names).equals(table)
    assert got.column_names[len(table.column_names) :] == [
        "prediction",
        "probability",
        "model_version",
        "predicted_at",
    ]
    assert got["predicted_at"].type == pa.timestamp("us", "UTC")
    assert len(set(got["predicted_at"].to_pylist())) == 1


def test_nullable_integers_and_dictionaries_feed_inputs(repository: Path, tmp_path: Path) -> None:
    table = arrow(60)
    usage = pa.array([None if number % 7 == 0 else number for number in range(60)], pa.int16())
    table = table.set_column(1, "usage", usage)
    table = table.set_column(2, "plan", table["plan"].combine_chunks().dictionary_encode())
    pq.write_table(table, tmp_path / "in.parquet")
    foretell.batch(repository, tmp_path / "in.parquet", tmp_path / "out")
    plain = table.set_column(1, "usage", usage.cast(pa.float64()))
    plain = plain.set_column(2, "plan", table["plan"].cast(pa.string()))
    assert answers(written(tmp_path / "out")) == expected(repository, plain)


def test_dictionaries_that_grow_from_batch_to_batch_are_read(
    repository: Path, tmp_path: Path
) -> None:
    words = ["basic", "plus", "prö"]
    kind = pa.dictionary(pa.int32(), pa.string())
    parts = []
    for number in range(1, 4):
        told = pa.DictionaryArray.from_arrays(
            pa.array([number - 1] * 10, pa.int32()), words[:number]
        )
        rows = {"usage": [1.0] * 10, "plan": told, "active": [True] * 10}
        parts.append(pa.record_batch(rows))
    schema = pa.schema({"usage": pa.float64(), "plan": kind, "active": pa.bool_()})
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(tmp_path / "in.arrow", schema, options=options) as writer:
        for part in parts:
            writer.write_batch(part)
    foretell.batch(repository, tmp_path / "in.arrow", tmp_path / "out.arrow")
    with pa.ipc.open_file(tmp_path / "out.arrow") as reader:
        got = reader.read_all()
    assert got["plan"].to_pylist() == [word for word in words for _ in range(10)]
    assert len(set(got["probability"].to_pylist())) == 3


def test_a_partitioned_data_set_keeps_its_folders_and_may_feed_an_input(
    repository: Path, tmp_path: Path
) -> None:
    table = arrow(90).drop_columns(["plan"])
    for number, plan in enumerate(["basic", "plus", "__HIVE_DEFAULT_PARTITION__"]):
        folder = tmp_path / "in" / "year=2024" / f"plan={plan}"
        write(table.slice(number * 30, 30), folder / "a.parquet")
    (tmp_path / "in" / "_SUCCESS").touch()
    foretell.batch(repository, tmp_path / "in", tmp_path / "out")
    folders = {
        path.parent.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("part-*.parquet")
    }
    assert folders == {
        f"year=2024/plan={plan}" for plan in ("basic", "plus", "__HIVE_DEFAULT_PARTITION__")
    }
    plans = pa.array(["basic"] * 30 + ["plus"] * 30 + [None] * 30, pa.string())
    whole = table.append_column("plan", plans)
    got = written(tmp_path / "out").sort_by("id")
    assert answers(got) == expected(repository, whole)
    assert "plan" not in got.column_names
    foretell.batch(repository, tmp_path / "in", tmp_path / "one.parquet")
    one = pq.read_table(tmp_path / "one.parquet").sort_by("id")
    assert one["plan"].to_pylist() == plans.to_pylist()
    assert set(one["year"].to_pylist()) == {2024}


def test_files_without_rows_make_parts_without_rows(repository: Path, tmp_path: Path) -> None:
    table = arrow(10)
    write(table.slice(0, 0), tmp_path / "in" / "a.parquet")
    write(table, tmp_path / "in" / "b.parquet")
    report = foretell.batch(repository, tmp_path / "in", tmp_path / "out")
    assert (report.files, report.parts, report.rows_scored) == (2, 2, 10)
    empty = pq.read_table(tmp_path / "out" / "part-00000-00000.parquet")
    assert empty.num_rows == 0
    assert empty.schema == pq.read_table(tmp_path / "out" / "part-00001-00000.parquet").schema


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_empty_files_among_others_make_parts_without_rows(
    repository: Path, tmp_path: Path, form: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"a.{form}").touch()
    write(arrow(10), tmp_path / "in" / f"b.{form}")
    report = foretell.batch(repository, tmp_path / "in", tmp_path / "out")
    assert (report.files, report.parts, report.rows_scored) == (2, 2, 10)


def test_only_empty_files_are_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(InvalidInput, match="every file is empty"):
        foretell.batch(repository, tmp_path / "a.csv", tmp_path / "out")


def test_a_large_row_group_makes_several_parts(repository: Path, tmp_path: Path) -> None:
    pq.write_table(arrow(1000), tmp_path / "in.parquet", row_group_size=1000)
    report = foretell.batch(
        repository, tmp_path / "in.parquet", tmp_path / "out", part_rows=300, batch_rows=70
    )
    assert report.parts == 4
    got = written(tmp_path / "out")
    assert got["id"].to_pylist() == list(range(1000))
    sizes = [
        pq.read_metadata(path).num_rows for path in sorted((tmp_path / "out").glob("*.parquet"))
    ]
    assert sizes == [300, 300, 300, 100]


def test_two_thousand_columns_are_carried(repository: Path, tmp_path: Path) -> None:
    table = arrow(30)
    wide = {f"c{number}": np.full(30, number) for number in range(2000)}
    table = pa.table({name: table[name] for name in table.column_names} | wide)
    pq.write_table(table, tmp_path / "in.parquet")
    foretell.batch(repository, tmp_path / "in.parquet", tmp_path / "out")
    got = written(tmp_path / "out")
    assert got.num_columns == 2000 + 5 + 4
    assert got.select(table.column_names).equals(table)


def test_a_thousand_files_make_one_report(repository: Path, tmp_path: Path) -> None:
    table = arrow(1000)
    for number in range(1000):
        write(table.slice(number, 1), tmp_path / "in" / f"f{number:04}.parquet")
    report = foretell.batch(repository, tmp_path / "in", tmp_path / "out", threads=2)
    assert (report.files, report.parts, report.rows_scored) == (1000, 1000, 1000)
    assert answers(written(tmp_path / "out")) == expected(repository, table)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz", "ndjson", "ndjson.gz", "arrow"])
def test_a_single_file_has_all_rows_in_order(
    repository: Path, tmp_path: Path, form: str, threads: int
) -> None:
    write(arrow(200), tmp_path / "in.parquet")
    output = tmp_path / f"out.{form}"
    options: dict[str, Any] = {"part_rows": 60, "batch_rows": 16, "threads": threads}
    foretell.batch(repository, tmp_path / "in.parquet", output, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", output.name]
    assert _ids(output) == list(range(200))


def _ids(path: Path) -> list[int]:
    form = path.name.partition(".")[2]
    if form == "parquet":
        return pq.read_table(path)["id"].to_pylist()  # type: ignore[no-any-return] # no types
    if form == "arrow":
        with pa.ipc.open_file(path) as reader:
            return reader.read_all()["id"].to_pylist()  # type: ignore[no-any-return] # no types
    with pa.input_stream(path) as stream:
        body = stream.read().decode()
    if form.startswith("csv"):
        return [int(row["id"]) for row in csv.DictReader(body.splitlines())]
    return [json.loads(line)["id"] for line in body.splitlines()]


def test_kept_columns_and_probabilities_are_chosen(repository: Path, tmp_path: Path) -> None:
    write(arrow(20), tmp_path / "in.parquet")
    for probabilities, kind in (("all", pa.list_(pa.float64())), ("positive", pa.float64())):
        out = tmp_path / probabilities
        foretell.batch(
            repository,
            tmp_path / "in.parquet",
            out,
            keep=["note", "id"],
            probabilities=probabilities,
        )
        got = written(out)
        assert got.column_names[:2] == ["note", "id"]
        assert got.schema.field("probability").type == kind
    foretell.batch(
        repository, tmp_path / "in.parquet", tmp_path / "no.csv", keep="", probabilities="none"
    )
    header = (tmp_path / "no.csv").read_text().splitlines()[0]
    assert header == '"prediction","model_version","predicted_at"'
    foretell.batch(
        repository, tmp_path / "in.parquet", tmp_path / "all.csv", keep="id", probabilities="all"
    )
    header = (tmp_path / "all.csv").read_text().splitlines()[0]
    assert header.startswith('"id","prediction","probability_high","probability_low",')


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_limit_takes_the_first_rows(repository: Path, tmp_path: Path, form: str) -> None:
    table = arrow(100)
    for number in range(4):
        write(table.slice(number * 25, 25), tmp_path / "in" / f"{number}.{form}")
    report = foretell.batch(repository, tmp_path / "in", tmp_path / "out", limit=60)
    assert (report.files, report.rows_scored) == (3, 60)
    got = written(tmp_path / "out")["id"].cast(pa.int64()).to_pylist()
    assert got == list(range(60))


def test_row_groups_and_compression_are_chosen(repository: Path, tmp_path: Path) -> None:
    write(arrow(100), tmp_path / "in.parquet")
    foretell.batch(
        repository,
        tmp_path / "in.parquet",
        tmp_path / "out",
        row_group_rows=30,
        compression="zstd",
        batch_rows=7,
    )
    told = pq.read_metadata(tmp_path / "out" / "part-00000-00000.parquet")
    assert [told.row_group(n).num_rows for n in range(told.num_row_groups)] == [30, 30, 30, 10]
    assert told.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        ("out.csv", {"compression": "zstd"}, "csv has none, gzip"),
        ("out.csv.gz", {"compression": "none"}, "is to be gzip"),
        ("out.csv", {"format": "parquet"}, "is to be csv"),
        ("out.parquet.gz", {}, "not packed again: name it out.parquet"),
        ("out", {"columns": ["usage=id", "usage=note"]}, "takes one column"),
        ("out", {"columns": ["usage"]}, "take INPUT=COLUMN"),
        ("out", {"threads": 0}, "threads"),
        ("out", {"on_bad_rows": "skip"}, "did you mean 'on_bad_row'"),
    ],
)
def test_choices_that_contradict_are_refused(
    repository: Path, tmp_path: Path, output: str, options: dict[str, Any], words: str
) -> None:
    write(arrow(3), tmp_path / "in.parquet")
    with pytest.raises(BadSettings, match=words):
        foretell.batch(repository, tmp_path / "in.parquet", tmp_path / output, **options)


def test_a_job_that_is_done_is_not_done_again(repository: Path, tmp_path: Path) -> None:
    write(arrow(100), tmp_path / "in.parquet")
    arguments = (repository, tmp_path / "in.parquet", tmp_path / "out")
    first = foretell.batch(*arguments, part_rows=40)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}
    second = foretell.batch(*arguments, part_rows=40)
    assert (second.parts, second.parts_before) == (first.parts, first.parts)
    assert second.predicted_at == first.predicted_at
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}


def test_the_hook_is_told_how_far_it_is(repository: Path, tmp_path: Path) -> None:
    write(arrow(100), tmp_path / "in.parquet")
    told: list[Any] = []
    foretell.batch(repository, tmp_path / "in.parquet", tmp_path / "out", hook=told.append)
    assert (told[-1].rows, told[-1].rows_total, told[-1].parts_total) == (100, 100, 1)


def test_texts_in_dictionaries_are_written_as_such_and_read_as_texts(
    repository: Path, tmp_path: Path
) -> None:
    words = pa.array(["lang", "kurz", None, "größer"] * 500)
    table = arrow(2000).append_column("word", words)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=700)
    for output in (tmp_path / "out", tmp_path / "one.parquet"):
        foretell.batch(repository, tmp_path / "in.parquet", output, batch_rows=300, part_rows=900)
    (first, *_) = sorted((tmp_path / "out").glob("part-*.parquet"))
    for path in (first, tmp_path / "one.parquet"):
        told = pq.read_metadata(path)
        columns = {told.row_group(0).column(n).path_in_schema: n for n in range(told.num_columns)}
        word = told.row_group(0).column(columns["word"])
        assert word.has_dictionary_page
        assert word.total_uncompressed_size < 2 * word.num_values
    one = pq.read_table(tmp_path / "one.parquet")
    for got in (written(tmp_path / "out"), one):
        assert got.select(table.column_names).equals(table)


@pytest.mark.parametrize("output", ["out.ndjson", "out"])
def test_times_beyond_the_years_of_python_are_told_as_text(
    repository: Path, tmp_path: Path, output: str
) -> None:
    times = pa.array([2**62, 0, None], pa.timestamp("us"))
    table = arrow(3).append_column("when", times)
    wrong = table.set_column(3, "active", pa.array([None, True, True]))
    pq.write_table(wrong if output == "out" else table, tmp_path / "in.parquet")
    foretell.batch(repository, tmp_path / "in.parquet", tmp_path / output, on_bad_row="quarantine")
    quarantined = tmp_path / "out" / "_quarantine" / "part-00000-00000.ndjson"
    told = (quarantined if output == "out" else tmp_path / output).read_text().splitlines()
    row = json.loads(told[0])
    assert row.get("data", row)["when"] == f"<value out of range: {2**62}>"
    if output == "out":
        assert written(tmp_path / "out")["when"].to_pylist() == [dt.datetime(1970, 1, 1), None]


def test_an_output_in_that_of_another_job_is_refused(repository: Path, tmp_path: Path) -> None:
    data = write(arrow(3), tmp_path / "in.parquet")
    foretell.batch(repository, data, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for inside in ("out/more", "out/more.parquet", "out/a=1/b=2/more", "link/more"):
        with pytest.raises(JobRefused, match="where another job's work is"):
            foretell.batch(repository, data, tmp_path / inside)
    foretell.batch(repository, data, tmp_path / "out" / "_more")
    foretell.batch(repository, data, tmp_path / "out-more")
    assert pq.read_table(tmp_path / "out").num_rows == 3
