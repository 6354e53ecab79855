"""Rows for `foretell predict` from wherever they are, and answers for people and programs."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from foretell.app.predicting import MOST_SHOWN, client_of, rows_of, shown
from foretell.app.settings import ClientSettings
from foretell.client.predictions import Predictions
from foretell.codecs.asking.rows import batch_of
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import BadSettings, InvalidInput

SIGNATURE = Signature(
    (Field("age", Datatype.FP64, nullable=True), Field("plan", Datatype.BYTES)),
    (Field("prediction", Datatype.INT64),),
)
ROWS = [(35.0, "pro"), (46.5, "basic")]
JSON = '[{"age": 35, "plan": "pro"}, {"age": 46.5, "plan": "basic"}]'
LINES = '{"age": 35, "plan": "pro"}\n\n[46.5, "basic"]\n'
CSV = "plan,age\npro,35\nbasic,46.5\n"


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def rows(told: str | None = None, file: str | None = None, stdin: bytes | None = None) -> list[Any]:
    came = Terminal() if stdin is None else io.BytesIO(stdin)
    return list(batch_of(SIGNATURE, rows_of(told, file, came, SIGNATURE)).rows)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ('{"age": 35, "plan": "pro"}', ROWS[:1]),
        ('[35, "pro"]', ROWS[:1]),
        ('{"features": [35, "pro"]}', ROWS[:1]),
        ('{"instances": [[35, "pro"], [46.5, "basic"]]}', ROWS),
        ('[[35, "pro"], [46.5, "basic"]]', ROWS),
        (JSON, ROWS),
    ],
)
def test_rows_as_json_on_the_command_line(told: str, wanted: list[Any]) -> None:
    assert rows(told) == wanted


@pytest.mark.parametrize("text", [JSON, LINES, CSV, f"  {JSON}\n", f"\ufeff{JSON}"])
def test_stdin_tells_its_form_by_itself(text: str) -> None:
    assert rows(stdin=text.encode()) == ROWS
    assert rows(file="-", stdin=text.encode()) == ROWS


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", JSON), ("a.NDJSON", LINES), ("a.jsonl", LINES), ("a.csv", CSV)]
)
def test_a_file_tells_its_form_by_its_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert rows(file=str(tmp_path / name)) == ROWS


def test_a_parquet_file(tmp_path: Path) -> None:
    pd.DataFrame(ROWS, columns=["age", "plan"]).to_parquet(tmp_path / "a.parquet")
    assert rows(file=str(tmp_path / "a.parquet")) == ROWS
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match="is not readable as Parquet"):
        rows(file=str(tmp_path / "b.parquet"))


def test_a_parquet_file_in_a_partitioned_folder_is_read_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "year=2024"
    folder.mkdir()
    pd.DataFrame(ROWS, columns=["age", "plan"]).to_parquet(folder / "a.parquet")
    assert rows(file=str(folder / "a.parquet")) == ROWS


def test_a_text_of_digits_stays_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,plan\n,007\n")
    ((age, plan),) = rows(file=str(tmp_path / "a.csv"))
    assert np.isnan(age)
    assert plan == "007"


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, BadSettings, "no rows are given; give JSON"),
        ({"told": "{}", "file": "a.csv"}, BadSettings, "given twice"),
        ({"told": "{"}, InvalidInput, "the JSON is not valid JSON"),
        ({"told": "7"}, InvalidInput, "the JSON is no row"),
        ({"told": "[" * 100_000}, InvalidInput, "nested too deeply"),
        ({"told": "\udcff"}, InvalidInput, "not valid JSON"),
        ({"stdin": b" \n"}, InvalidInput, "stdin is empty"),
        ({"stdin": b'{"age": 1}\n{"age"\n'}, InvalidInput, "line 2 of stdin is not valid JSON"),
        ({"stdin": b'{"age": 1'}, InvalidInput, "stdin is not valid JSON"),
        ({"stdin": b"[" * 100_000}, InvalidInput, "stdin is nested too deeply"),
        ({"stdin": b"age\n1\n"}, InvalidInput, "column 'plan' is missing"),
        ({"file": "rows.xlsx"}, InvalidInput, "name it .json, .ndjson, .csv or .parquet"),
        ({"file": "absent.csv"}, InvalidInput, "absent.csv cannot be read: No such file"),
    ],
)
def test_rows_that_cannot_be_read_are_told(
    options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        rows(**options)


ANSWER = Predictions(
    "churn",
    "1.0.0",
    {
        "prediction": np.array(["yes[bold]", "no"], dtype=object),
        "probability": np.array([[0.25, 0.75], [np.nan, 1.0]]),
    },
)


def printed(answer: Predictions, *, terminal: bool, as_json: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, no_color=True, highlight=False)
    lines = "\n".join(shown(console, answer, as_json=as_json))
    return out.getvalue() + lines


def test_a_terminal_gets_a_table() -> None:
    text = printed(ANSWER, terminal=True)
    assert "churn" in text
    assert "yes[bold]" in text
    assert "0.25, 0.75" in text


def test_a_terminal_gets_no_flood() -> None:
    many = Predictions("m", "1", {"prediction": np.arange(MOST_SHOWN + 5)})
    text = printed(many, terminal=True)
    assert f"{MOST_SHOWN - 1}" in text
    assert "and 5 more rows; --json shows all" in text


def test_a_pipe_gets_a_row_of_json_a_line() -> None:
    lines = [json.loads(line) for line in printed(ANSWER, terminal=False).splitlines()]
    assert lines == [
        {"prediction": "yes[bold]", "probability": [0.25, 0.75]},
        {"prediction": "no", "probability": [None, 1.0]},
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_json_is_one_document(terminal: bool) -> None:
    told = json.loads(printed(ANSWER, terminal=terminal, as_json=True))
    assert (told["model"], told["version"]) == ("churn", "1.0.0")
    assert told["outputs"]["prediction"] == ["yes[bold]", "no"]


def test_several_servers_stand_between_commas() -> None:
    settings = ClientSettings(balance="weighted")
    with client_of("http://a=2, http://b=1,", settings) as client:
        assert repr(client) == "Client(http://a, http://b)"
