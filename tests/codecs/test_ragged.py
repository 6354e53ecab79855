"""Rows whose free sizes differ are refused at every door that takes several, with field and row."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from foretell.codecs.asking.rows import batch_of
from foretell.codecs.json_rows import JsonRows
from foretell.codecs.oip_json import OipJson
from foretell.codecs.scoring import ScoringBodies
from foretell.codecs.tables import ndjson
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput

OUT = (Field("prediction", Datatype.FP64),)
Values = list[Any]


def signature(datatype: Datatype, *shape: int) -> Signature:
    return Signature((Field("id", Datatype.INT64), Field("signal", datatype, shape=shape)), OUT)


def body(key: str, values: Values) -> bytes:
    return json.dumps({key: [[n, value] for n, value in enumerate(values)]}).encode()


def named(values: Values) -> dict[str, Values]:
    return {"id": list(range(len(values))), "signal": values}


def split(s: Signature, values: Values) -> Batch:
    told = {"columns": ["id", "signal"], "data": [[n, v] for n, v in enumerate(values)]}
    sent = json.dumps({"dataframe_split": told}).encode()
    return ScoringBodies(s).decode_invocation(sent, max_rows=10)


def lines(s: Signature, values: Values) -> Batch:
    sent = b"".join(
        json.dumps({"id": n, "signal": value}).encode() + b"\n" for n, value in enumerate(values)
    )
    return ndjson.read_lines(JsonRows(s), sent, max_rows=10)


DOORS: dict[str, Callable[[Signature, Values], Batch]] = {
    "batch": lambda s, v: JsonRows(s).decode_rows(body("instances", v), max_rows=10),
    "v1": lambda s, v: ScoringBodies(s).decode_v1(body("inputs", v), max_rows=10),
    "split": split,
    "lines": lines,
    "rows in Python": lambda s, v: batch_of(s, [list(row) for row in enumerate(v)]),
    "pandas": lambda s, v: batch_of(s, pd.DataFrame(named(v))),
    "arrow": lambda s, v: batch_of(s, pa.table(named(v))),
}
FLAT = signature(Datatype.FP64, -1)
TEXTS = signature(Datatype.BYTES, -1)
PAIRS = signature(Datatype.FP32, -1, 2)


@pytest.mark.parametrize(
    ("s", "values", "row"),
    [
        (FLAT, [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0]], 2),
        (FLAT, [[1.0], []], 1),
        (TEXTS, [["a", "b"], ["c"]], 1),
        (PAIRS, [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]], 1),
    ],
)
@pytest.mark.parametrize("door", DOORS)
def test_rows_of_other_sizes_are_refused(door: str, s: Signature, values: Values, row: int) -> None:
    with pytest.raises(
        InvalidInput, match=f"row {row}: 'signal' is an array of .* in the first row"
    ) as told:
        DOORS[door](s, values)
    assert (told.value.field, told.value.row) == ("signal", row)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("s", "values"), [(FLAT, [[1.0, 2.0]] * 3), (TEXTS, [["a"]] * 3), (PAIRS, [[[1.0, 2.0]]] * 3)]
)
def test_rows_that_are_alike_pass(door: str, s: Signature, values: Values) -> None:
    column = DOORS[door](s, values).column("signal")
    assert column.shape == (3, *np.shape(values[0]))


@pytest.mark.parametrize("values", [[["a"], ["b", "c"]], [], ["a"]])
def test_a_row_that_is_ragged_in_itself_is_refused(values: Values) -> None:
    with pytest.raises(InvalidInput, match="'signal' is an array of"):
        JsonRows(signature(Datatype.BYTES, -1, -1)).decode_row(
            json.dumps({"id": 1, "signal": values}).encode()
        )


def test_tensors_say_so_as_ever() -> None:
    told = {"name": "signal", "datatype": "FP64", "shape": [2, 2], "data": [[1, 2], [3]]}
    with pytest.raises(InvalidInput, match="ragged"):
        OipJson(FLAT).decode(json.dumps({"inputs": [told]}).encode(), None, max_rows=10)
