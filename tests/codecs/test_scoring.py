"""Bodies of the scoring contracts: every form of the same rows means the same."""

import json
import math
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.codecs.scoring import ScoringBodies
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

PREDICTION = (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64, shape=(2,)))
CODEC = ScoringBodies(
    Signature(
        (
            Field("age", Datatype.FP64, nullable=True),
            Field("tenure", Datatype.INT64),
            Field("plan", Datatype.BYTES, nullable=True),
            Field("on", Datatype.BOOL),
        ),
        PREDICTION,
    )
)
NAMES = CODEC.signature.input_names
SCALAR = ScoringBodies(Signature((Field("x", Datatype.FP64),), PREDICTION))
VECTOR = ScoringBodies(Signature((Field("x", Datatype.FP64, shape=(2,)),), PREDICTION))

ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        st.integers(-(2**63), 2**63 - 1),
        st.one_of(st.none(), st.text(min_size=1, max_size=5)),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def forms(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The JSON bodies that say `rows`, by what they are."""
    named = [dict(zip(NAMES, row, strict=True)) for row in rows]
    columns = {name: [row[at] for row in rows] for at, name in enumerate(NAMES)}
    turned = [list(reversed(row)) for row in rows]
    return {
        "instances by name": {"instances": named},
        "instances in order": {"instances": rows},
        "inputs by name": {"inputs": named},
        "inputs in order": {"inputs": rows, "params": {"a": 1}},
        "inputs as columns": {"inputs": columns},
        "records": {"dataframe_records": named},
        "split": {"dataframe_split": {"columns": list(reversed(NAMES)), "data": turned}},
        "split without names": {"dataframe_split": {"index": [9], "data": rows}},
    }


def rows_of(batch: Batch) -> list[Any]:
    gaps = [[isinstance(v, float) and math.isnan(v) for v in row] for row in batch.rows]
    return [
        tuple(None if gap else v for v, gap in zip(row, line, strict=True))
        for row, line in zip(batch.rows, gaps, strict=True)
    ]


@given(ROWS)
def test_every_form_of_the_same_rows_means_the_same(rows: list[Any]) -> None:
    for what, told in forms(rows).items():
        body = json.dumps(told).encode()
        assert rows_of(CODEC.decode_invocation(body, max_rows=9)) == rows, what
        if not what.startswith(("records", "split")):
            assert rows_of(CODEC.decode_v1(body, max_rows=9)) == rows, what


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"[]", "the body is an array of 0, but must be an object"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{}", "must have one of dataframe_split, dataframe_records, instances, inputs"),
        (b'{"instances": [], "inputs": []}', "it has 2"),
        (b'{"rows": []}', 'unknown field "rows"'),
        (b'{"instances": []}', "there are no rows"),
        (b'{"instances": {}}', "'instances' is an object, but must be an array"),
        (b'{"instances": [1]}', "row 0: is 1, but must be an object or an array"),
        (b'{"instances": [[1, 2, "a", true], [1]]}', "row 1: the row has 1 values"),
        (b'{"inputs": {"age": [1], "tenure": [1, 2]}}', "the columns of 'inputs' differ in length"),
        (b'{"inputs": {"age": 1}}', "'age' is 1, but must be an array"),
        (b'{"inputs": {"age": [1]}}', "row 0: field 'tenure' is missing"),
        (b'{"dataframe_records": [{"age": 1}]}', "row 0: field 'tenure' is missing"),
        (b'{"dataframe_split": []}', "must be an object of columns and data"),
        (b'{"dataframe_split": {"columns": ["age"]}}', "'data' is null, but must be an array"),
        (b'{"dataframe_split": {"columns": [1], "data": [[1]]}}', "must be different names"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": []}}', "must be different names"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "row 0: there are 2 values"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [1]}}', "'data' is 1"),
        (b'{"dataframe_split": {"data": [], "x": 1}}', "unknown field \"x\" in 'dataframe_split'"),
    ],
)
def test_what_is_no_invocation_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CODEC.decode_invocation(body, max_rows=9)
    assert words in refused.value.message


def test_the_forms_of_mlflow_are_none_of_v1() -> None:
    with pytest.raises(InvalidInput, match='unknown field "dataframe_records"; send rows as'):
        CODEC.decode_v1(b'{"dataframe_records": []}', max_rows=9)


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_a_model_with_one_input_takes_bare_values(key: str) -> None:
    def decoded(codec: ScoringBodies, rows: list[Any]) -> Any:
        batch = codec.decode_v1(json.dumps({key: rows}).encode(), max_rows=9)
        return batch.columns[0].tolist()

    assert decoded(SCALAR, [1, [2], {"x": 3}]) == [1.0, 2.0, 3.0]
    assert decoded(VECTOR, [[1, 2], [[3, 4]], {"x": [5, 6]}]) == [[1, 2], [3, 4], [5, 6]]


def test_too_many_rows_are_refused_in_every_form() -> None:
    row = (1.0, 2, "a", True)
    for told in forms([row] * 3).values():
        with pytest.raises(TooLarge):
            CODEC.decode_invocation(json.dumps(told).encode(), max_rows=2)


def test_too_many_rows_are_refused_before_they_are_made() -> None:
    zeros = b"0," * 50_000 + b"0"
    rows = b"[0]," * 50_000 + b"[0]"
    bodies = [
        b'{"inputs": {"x": [%s]}}' % zeros,
        b'{"dataframe_split": {"columns": ["x"], "data": [%s]}}' % rows,
    ]
    for body in bodies:
        parsed = _peak(partial(json.loads, body))
        asked = _peak(partial(_refused, SCALAR, body))
        assert asked < parsed + 2**20


def _peak(work: Callable[[], object]) -> int:
    """The most memory that `work` took at a time, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _refused(codec: ScoringBodies, body: bytes) -> None:
    with pytest.raises(TooLarge, match="50001 rows in one request, but the limit is 10"):
        codec.decode_invocation(body, max_rows=10)


@pytest.mark.parametrize(
    ("outputs", "predictions"),
    [
        (PREDICTION, [1, 2]),
        ((Field("score", Datatype.INT64),), [1, 2]),
        (
            (Field("one", Datatype.INT64), Field("two", Datatype.FP64, shape=(2,))),
            [{"one": 1, "two": [0.5, None]}, {"one": 2, "two": [1.0, 0.0]}],
        ),
    ],
)
def test_predictions_are_the_prediction_the_only_output_or_all_by_name(
    outputs: tuple[Field, ...], predictions: list[Any]
) -> None:
    columns = [np.array([1, 2]), np.array([[0.5, math.nan], [1.0, 0.0]])][: len(outputs)]
    codec = ScoringBodies(Signature(CODEC.signature.inputs, outputs))
    told = json.loads(codec.encode(Batch.from_columns(outputs, columns)))
    assert told == {"predictions": predictions}
