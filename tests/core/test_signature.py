"""Fields and signatures: what is accepted, what is refused, and in which words."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import BadPackage, InvalidInput

OUTPUTS = (Field("prediction", Datatype.INT64),)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        (Field("x", Datatype.FP64), 3, 3.0),
        (Field("x", Datatype.INT64), 24.0, 24),
        (Field("x", Datatype.FP64, nullable=True), None, math.nan),
        (Field("x", Datatype.FP64, nullable=True), math.nan, math.nan),
        (Field("x", Datatype.BYTES, nullable=True), None, None),
        (Field("x", Datatype.BOOL), True, True),
        (Field("x", Datatype.UINT8), 255, 255),
        (Field("x", Datatype.FP64), np.float32(0.5), 0.5),
    ],
)
def test_a_value_that_loses_nothing_is_accepted(field: Field, value: object, accepted: Any) -> None:
    got = field.accept(value)
    assert type(got) is type(accepted)
    assert got == accepted or (math.isnan(got) and math.isnan(accepted))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (Field("x", Datatype.FP64), "3", "'x' is \"3\", but must be a number"),
        (Field("x", Datatype.FP64), True, "'x' is true, but must be a number"),
        (Field("x", Datatype.FP64), None, "'x' is null, but must be a number"),
        (Field("x", Datatype.FP64), math.inf, "'x' is inf, but must be between"),
        (Field("x", Datatype.FP32), 1e39, "must be between"),
        (Field("x", Datatype.FP64, minimum=-1, maximum=1), 2, "between -1 and 1"),
        (Field("x", Datatype.INT64), 24.5, "must be a whole number"),
        (Field("x", Datatype.INT8), 128, "between -128 and 127"),
        (Field("x", Datatype.UINT64), 2**64, "between 0 and"),
        (Field("x", Datatype.BOOL), 1, "'x' is 1, but must be true or false"),
        (Field("x", Datatype.BYTES), 1, "'x' is 1, but must be a string"),
        (Field("x", Datatype.BYTES, categories=("a", "b"), closed=True), "c", 'one of "a", "b"'),
        (Field("x", Datatype.FP64, shape=(2,)), [1.0], "an array of 2 values, each a number"),
        (Field("x", Datatype.FP64, shape=(2,)), [1.0, "a"], "'x' is \"a\""),
        (Field("x", Datatype.FP64, shape=(-1, 2)), [[1, 2], [3]], "any x 2 values"),
    ],
)
def test_anything_else_is_refused_in_words_that_say_what_came_and_what_is_taken(
    field: Field, value: object, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        field.accept(value)
    assert words in caught.value.message
    assert caught.value.field == "x"


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(width=64), st.integers(-300, 300), st.floats(-300, 300)
)
NUMERIC_FIELDS = st.builds(
    lambda datatype, nullable: Field("x", datatype, nullable=nullable and datatype.is_float),
    st.sampled_from([d for d in Datatype if d.is_numeric]),
    st.booleans(),
)


@given(
    NUMERIC_FIELDS,
    st.lists(NUMBERS, min_size=1, max_size=5),
    st.sampled_from([np.float64, np.float32, np.float16]),
)
def test_a_column_is_judged_like_its_values(
    field: Field, values: list[float], dtype: type[np.floating[Any]]
) -> None:
    with np.errstate(over="ignore"):
        column = np.array(values, dtype=np.float64).astype(dtype)
    one_by_one: list[Any] | None
    try:
        one_by_one = [field.accept(value) for value in column.tolist()]
    except InvalidInput:
        one_by_one = None
    if one_by_one is None:
        with pytest.raises(InvalidInput) as caught:
            field.accept_column(column)
        assert caught.value.row is not None
    else:
        expected = np.array(one_by_one, dtype=field.datatype.numpy)
        # the greatest 64-bit integers have no float64 of their own
        if not field.datatype.is_integer or all(abs(v) < 2**53 for v in one_by_one):
            np.testing.assert_array_equal(field.accept_column(column), expected)


def test_a_text_column_keeps_missing_values_as_none() -> None:
    field = Field("x", Datatype.BYTES, nullable=True)
    column = field.accept_column(np.array(["a", None, math.nan], dtype=object))
    assert column.tolist() == ["a", None, None]


def test_a_refused_column_says_the_row() -> None:
    field = Field("x", Datatype.BYTES)
    with pytest.raises(InvalidInput, match="row 1: 'x' is 2") as caught:
        field.accept_column(np.array(["a", 2], dtype=object))
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": 1.0}, "field 'b' is missing"),
        ({"a": 1.0, "b": "x", "c": 1}, 'unknown field "c"; the inputs are a, b'),
        ([1.0], "the row has 1 values, but the model takes 2: a, b"),
    ],
)
def test_a_row_must_have_exactly_the_inputs(row: Any, words: str) -> None:
    signature = Signature((Field("a", Datatype.FP64), Field("b", Datatype.BYTES)), OUTPUTS)
    with pytest.raises(InvalidInput, match=words):
        signature.accept_row(row)


def test_dense_is_the_one_numeric_datatype_of_scalars() -> None:
    number, text = Field("a", Datatype.FP32), Field("b", Datatype.BYTES)
    assert Signature((number,), OUTPUTS).dense is Datatype.FP32
    assert Signature((number, text), OUTPUTS).dense is None
    assert Signature((number, Field("c", Datatype.FP64)), OUTPUTS).dense is None
    assert Signature((Field("v", Datatype.FP32, shape=(3,)),), OUTPUTS).dense is None


@pytest.mark.parametrize(
    "parts",
    [
        {"datatype": "INT64", "nullable": True},
        {"datatype": "BYTES", "closed": True},
        {"datatype": "BYTES", "minimum": 0.0},
        {"datatype": "FP64", "shape": (0,)},
        {"datatype": "TEXT"},
    ],
)
def test_a_field_that_contradicts_itself_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"x|TEXT"):
        Field("x", **parts)


def test_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two inputs are called 'a'"):
        Signature((Field("a", Datatype.FP64), Field("a", Datatype.FP64)), OUTPUTS)


SCALARS = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=5))
FIELDS = st.builds(
    lambda name, datatype, shape, categories: Field(
        name,
        datatype,
        shape=tuple(shape),
        nullable=not datatype.is_integer,
        categories=tuple(categories) if categories and datatype is Datatype.BYTES else None,
        closed=bool(categories) and datatype is Datatype.BYTES,
        minimum=-1.5 if datatype.is_float else None,
    ),
    st.text(min_size=1, max_size=8),
    st.sampled_from(list(Datatype)),
    st.lists(st.sampled_from([-1, 1, 3]), max_size=2),
    st.lists(st.text(max_size=3), max_size=3, unique=True),
)


@given(
    st.lists(FIELDS, min_size=1, max_size=4, unique_by=lambda f: f.name),
    st.one_of(st.none(), st.lists(SCALARS, max_size=3).map(tuple)),
)
def test_a_signature_survives_its_description(fields: list[Field], labels: Any) -> None:
    signature = Signature(tuple(fields), OUTPUTS, class_labels=labels)
    told = json.loads(json.dumps(signature.describe()))
    assert Signature.from_description(told) == signature


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"inputs": 3, "outputs": []},
        {"inputs": [{"name": "x"}], "outputs": [{"name": "y", "datatype": "FP64"}]},
        {"inputs": [{"name": "x", "datatype": "FP64", "colour": 1}], "outputs": []},
    ],
)
def test_an_unreadable_description_is_a_bad_package(told: Any) -> None:
    with pytest.raises(BadPackage):
        Signature.from_description(told)


@pytest.mark.parametrize(
    ("field", "column"),
    [
        (Field("x", Datatype.INT64), [2.0**63]),
        (Field("x", Datatype.UINT64), [2.0**64]),
        (Field("x", Datatype.FP64, shape=(2,), maximum=1), [[0.5, 2.0]]),
        (Field("x", Datatype.BYTES, shape=(2,), categories=("a",), closed=True), [["a", "b"]]),
    ],
)
def test_a_column_is_refused_where_its_values_would_be(field: Field, column: list[Any]) -> None:
    with pytest.raises(InvalidInput):
        field.accept(column[0])
    with pytest.raises(InvalidInput, match="row 0"):
        field.accept_column(np.array(column))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u8"])
@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.FP32, Datatype.FP64])
@pytest.mark.parametrize("nullable", [False, True])
def test_a_column_is_accepted_as_each_of_its_numbers_is(
    dtype: str, datatype: Datatype, nullable: bool
) -> None:
    limits = np.finfo(dtype) if dtype[0] == "f" else np.iinfo(dtype)
    odd = [np.nan, np.inf, -np.inf] if dtype[0] == "f" else []
    field = Field("x", datatype, nullable=nullable)
    for number in (0, 1, limits.max, limits.min, *odd):
        column = np.array([1, number, number], dtype=dtype)
        try:
            alone: Any = field.accept(column[1])
        except InvalidInput as error:
            alone = error
        if isinstance(alone, InvalidInput):
            with pytest.raises(InvalidInput) as told:
                field.accept_column(column)
            assert (told.value.row, told.value.message) == (1, f"row 1: {alone.message}")
        else:
            got = field.accept_column(column)
            assert got.dtype == datatype.numpy
            np.testing.assert_array_equal(got[1], np.array(alone, datatype.numpy))
