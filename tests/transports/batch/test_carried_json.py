"""Carried columns of NDJSON: what the first rows have not is told, and never lost on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import foretell
from foretell.transports.batch.reading import ndjson_files

PLAIN = {"usage": 1.0, "plan": "plus", "active": True}


def scored(
    repository: Path, tmp_path: Path, rows: Sequence[dict[str, Any]], keep: Sequence[str] | None
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The rows that came out, and numbers and reasons of those that did not."""
    lines = "".join(json.dumps(row | PLAIN) + "\n" for row in rows)
    (tmp_path / "in.ndjson").write_text(lines)
    output = tmp_path / "out.ndjson"
    foretell.batch(repository, tmp_path / "in.ndjson", output, keep=keep, on_bad_row="quarantine")
    bad = tmp_path / "out.ndjson.quarantine.ndjson"
    told = [json.loads(line) for line in bad.read_text().splitlines()] if bad.exists() else []
    got = [json.loads(line) for line in output.read_text().splitlines()]
    return got, [(one["row"], one["error"]) for one in told]


@pytest.mark.parametrize("keep", [None, ["x"]])
@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({"p": 1}, {"p": 1, "new": 2}),
        ([{"p": 1}], [{"p": 1}, {"new": 2}]),
        ({"p": {"q": 1}}, {"p": {"new": 1}}),
    ],
)
def test_a_key_within_a_value_that_the_first_rows_have_not_makes_a_bad_row(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: Sequence[str] | None,
    first: object,
    later: object,
) -> None:
    monkeypatch.setattr(ndjson_files, "_BLOCK_BYTES", 200)
    rows = [{"x": first}] * 10 + [{"x": later}, {"x": None}, {"x": first}]
    got, bad = scored(repository, tmp_path, rows, keep)
    assert bad == [(10, "'x' has \"new\", which the first rows have not")]
    assert [row["x"] for row in got] == [first] * 10 + [None, first]


def test_a_whole_number_that_its_column_would_round_makes_a_bad_row(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson_files, "_BLOCK_BYTES", 200)
    numbers = [0.5] * 10 + [2**53, 2**53 + 1, 1e300, None, -(2**53) - 1]
    got, bad = scored(repository, tmp_path, [{"x": number} for number in numbers], None)
    assert [row for row, _ in bad] == [11, 14]
    assert [row["x"] for row in got] == [0.5] * 10 + [2**53, 1e300, None]


def test_keys_beside_those_that_are_carried_are_left_out(repository: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"x": {"p": 1}}, {"x": {"p": 2}, "other": {"new": 1}}]
    got, bad = scored(repository, tmp_path, rows, ["x"])
    assert [row["x"] for row in got] == [{"p": 1}, {"p": 2}]
    assert not bad
