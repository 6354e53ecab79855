"""The JSON rows codec: what a body may be, and that both its ways of decoding agree."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import ForetellError, InvalidInput, TooLarge

OUTPUTS = (
    Field("prediction", Datatype.INT64),
    Field("probability", Datatype.FP64, shape=(2,)),
)
MIXED = Signature(
    (
        Field("age", Datatype.FP64, nullable=True),
        Field("tenure", Datatype.INT64),
        Field("plan", Datatype.BYTES, categories=("a", "b"), closed=True),
        Field("Monthly Charges ($)", Datatype.FP32),
        Field("active", Datatype.BOOL),
    ),
    OUTPUTS,
)
GOOD = {"age": 35.5, "tenure": 24, "plan": "a", "Monthly Charges ($)": 65.5, "active": True}
CODEC = JsonRows(MIXED)


def body(told: object) -> bytes:
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    "told",
    [GOOD, {"features": GOOD}, {"features": list(GOOD.values())}, dict(reversed(GOOD.items()))],
)
def test_all_forms_of_a_row_mean_the_same(told: object) -> None:
    assert CODEC.decode_row(body(told)) == (35.5, 24, "a", 65.5, True)
    assert CODEC.decode_row(b" \n" + body(told)) == (35.5, 24, "a", 65.5, True)


def test_objects_and_arrays_may_be_mixed_in_one_batch() -> None:
    rows = CODEC.decode_rows(body({"instances": [GOOD, list(GOOD.values())]}), max_rows=2)
    assert rows.rows == [(35.5, 24, "a", 65.5, True)] * 2


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ({"tenure": 24.0}, (35.5, 24, "a", 65.5, True)),
        ({"age": 3}, (3.0, 24, "a", 65.5, True)),
    ],
)
def test_whole_floats_are_integers_and_integers_are_floats(
    change: dict[str, Any], accepted: tuple[Any, ...]
) -> None:
    got = CODEC.decode_row(body(GOOD | change))
    assert got == accepted
    assert [type(value) for value in got] == [type(value) for value in accepted]


def test_of_duplicate_keys_the_last_one_counts() -> None:
    twice = b'{"age":1,"age":2,"tenure":2,"plan":"a","Monthly Charges ($)":1,"active":false}'
    assert CODEC.decode_row(twice)[0] == 2.0


def raw(change: str) -> bytes:
    return body(GOOD).replace(b"35.5", change.encode())


@pytest.mark.parametrize(
    ("sent", "words", "field"),
    [
        (b"", "the body is empty", None),
        (b"  ", "the body is empty", None),
        (b"{", "not valid JSON", None),
        (b"\xff\xfe", "not valid JSON", None),
        (b"\xef\xbb\xbf{}", "not valid JSON", None),
        (raw("NaN"), "not valid JSON", None),
        (raw("Infinity"), "not valid JSON", None),
        (raw("-Infinity"), "not valid JSON", None),
        (raw("1e999"), "not valid JSON", None),
        (raw('"\\ud800"'), "not valid JSON", None),
        (b'{"\xff": 1}', "not valid JSON", None),
        (b'{"features": {"\xff": 1}}', "not valid JSON", None),
        (body(GOOD).replace(b'"a"', b'"\xff"'), "not valid JSON", None),
        (b"[" * 100_000, "nested too deeply", None),
        (b'{"features":' * 10_000, "nested too deeply", None),
        (b"[1]", "but must be an object", None),
        (b"null", "but must be an object", None),
        (body(GOOD | {"age": "35"}), "'age' is \"35\", but must be a number or null", "age"),
        (body(GOOD | {"age": True}), "'age' is true, but must be a number or null", "age"),
        (body(GOOD | {"age": [1]}), "'age' is an array of 1", "age"),
        (body(GOOD | {"tenure": 2.5}), "'tenure' is 2.5, but must be a whole number", "tenure"),
        (body(GOOD | {"tenure": 2**63}), "'tenure' is 9223372036854775808, but must", "tenure"),
        (body(GOOD | {"tenure": None}), "'tenure' is null, but must be a whole number", "tenure"),
        (body(GOOD | {"plan": "c"}), '"c", but must be one of "a", "b"', "plan"),
        (body(GOOD | {"Monthly Charges ($)": 1e39}), "between", "Monthly Charges ($)"),
        (body(GOOD | {"active": 1}), "'active' is 1, but must be true or false", "active"),
        (body(GOOD | {"colour": 1}), 'unknown field "colour"', "colour"),
        (body({"age": 1}), "field 'tenure' is missing", "tenure"),
        (body({"features": [1, 2]}), "the row has 2 values, but the model takes 5", None),
        (body({"features": 3}), "'features' is 3, but must be an object or an array", "features"),
        (body({"features": {}, "x": 1}), "unknown field \"x\" next to 'features'", "x"),
    ],
)
def test_a_wrong_row_is_refused_in_words(sent: bytes, words: str, field: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        CODEC.decode_row(sent)
    assert words in caught.value.message
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("sent", "words", "row"),
    [
        (body({"instances": []}), "'instances' is empty", None),
        (body({"instances": {}}), "'instances' is an object, but must be an array", None),
        (body({"rows": []}), "must be an object", None),
        (body({"instances": [GOOD], "x": 1}), 'unknown field "x"', None),
        (body({"instances": [GOOD, 3]}), "row 1: is 3, but must be an object or an array", 1),
        (body({"instances": [GOOD, GOOD | {"age": "x"}]}), "row 1: 'age' is \"x\"", 1),
        (body({"instances": [[1]]}), "row 0: the row has 1 values", 0),
    ],
)
def test_a_wrong_batch_says_which_row(sent: bytes, words: str, row: int | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        CODEC.decode_rows(sent, max_rows=10)
    assert words in caught.value.message
    assert caught.value.row == row


@pytest.mark.parametrize("last", [GOOD, GOOD | {"tenure": 2.0}])
def test_too_many_rows_are_refused_on_both_ways(last: object) -> None:
    with pytest.raises(TooLarge, match="3 rows in one request, but the limit is 2"):
        CODEC.decode_rows(body({"instances": [GOOD, GOOD, last]}), max_rows=2)


def test_an_input_called_features_is_an_input() -> None:
    vector = Signature((Field("features", Datatype.FP32, shape=(2,)),), OUTPUTS)
    codec = JsonRows(vector)
    assert codec.decode_row(b'{"features": [1, 2]}')[0].tolist() == [1.0, 2.0]
    assert codec.decode_rows(b'{"instances": [{"features": [1, 2]}, [[3, 4]]]}', max_rows=2).rows[
        1
    ][0].tolist() == [3.0, 4.0]
    scalar = JsonRows(Signature((Field("features", Datatype.FP64),), OUTPUTS))
    assert scalar.decode_row(b'{"features": 2}') == (2.0,)


@pytest.mark.parametrize(
    "name", ['q"uote', "back\\slash", "tab\there", "nul\0", "ümlaut 🙂", "%", "$.a"]
)
def test_any_name_is_a_name(name: str) -> None:
    codec = JsonRows(Signature((Field(name, Datatype.FP64),), OUTPUTS))
    assert codec.decode_row(body({name: 2})) == (2.0,)
    assert codec.decode_rows(body({"instances": [{name: 2}, [3]]}), max_rows=2).rows == [
        (2.0,),
        (3.0,),
    ]
    with pytest.raises(InvalidInput, match="unknown field"):
        codec.decode_row(body({"x": 2}))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.sampled_from(["a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from([*GOOD, "features", "x"]), inner, max_size=6)
    ),
    max_leaves=12,
)
ALMOST = st.builds(
    lambda keys, values: {**GOOD, **dict(zip(keys, values, strict=False))},
    st.lists(st.sampled_from([*GOOD, "x"]), max_size=2, unique=True),
    st.lists(JSON, min_size=2, max_size=2),
)


def outcome(decode: Any) -> object:
    """What a decoding did, with missing values as None."""
    try:
        row = decode()
    except ForetellError as error:
        return error.message
    return [
        None if v is None or (isinstance(v, float) and math.isnan(v)) else (type(v), v) for v in row
    ]


@given(st.one_of(ALMOST, JSON, st.builds(lambda row: {"features": row}, ALMOST | JSON)))
def test_the_typed_way_agrees_with_the_judging_way(told: object) -> None:
    judging = JsonRows(MIXED)
    judging._flat = judging._wrapped = judging._many = None
    assert outcome(lambda: CODEC.decode_row(body(told))) == outcome(
        lambda: judging.decode_row(body(told))
    )
    many = body({"instances": [told, GOOD]})
    assert outcome(lambda: CODEC.decode_rows(many, max_rows=9).rows[0]) == outcome(
        lambda: judging.decode_rows(many, max_rows=9).rows[0]
    )


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("value", [0, 1, -1, 1.5, 255, 2**31, 2**63, 2**64, 1e308, True, "a", None])
def test_every_datatype_is_judged_alike_on_both_ways(datatype: Datatype, value: Any) -> None:
    codec = JsonRows(Signature((Field("x", datatype),), OUTPUTS))
    field = Field("x", datatype)
    assert outcome(lambda: codec.decode_row(body({"x": value}))) == outcome(
        lambda: (field.accept(value),)
    )


def answers(outputs: tuple[Field, ...], columns: list[Any]) -> tuple[Any, Any]:
    codec = JsonRows(Signature((Field("x", Datatype.FP64),), outputs))
    batch = Batch.from_columns(outputs, [np.array(column) for column in columns])
    return (
        msgspec.json.decode(codec.encode_row(batch.slice(0, 1), "1")),
        msgspec.json.decode(codec.encode_rows(batch, "1")),
    )


def test_a_classifier_answers_as_the_brief_asks() -> None:
    one, many = answers(OUTPUTS, [[0, 1], [[0.6, 0.4], [0.1, 0.9]]])
    assert one == {"prediction": 0, "probability": [0.6, 0.4], "model_version": "1"}
    assert list(one) == ["prediction", "probability", "model_version"]
    assert many == {
        "predictions": [0, 1],
        "probabilities": [[0.6, 0.4], [0.1, 0.9]],
        "model_version": "1",
    }


def test_other_kinds_of_answers() -> None:
    number = Field("prediction", Datatype.FP64)
    assert answers((number,), [[1.5]])[0] == {"prediction": 1.5, "model_version": "1"}
    score = Field("score", Datatype.FP64)
    one, many = answers((number, score), [[1.0], [-0.5]])
    assert one["outputs"] == {"score": -0.5}
    assert many["outputs"] == {"score": [-0.5]}
    targets = (
        Field("prediction", Datatype.INT64, shape=(2,)),
        Field("probability_0", Datatype.FP64, shape=(2,)),
        Field("probability_1", Datatype.FP64, shape=(3,)),
    )
    one, many = answers(targets, [[[0, 2]], [[0.5, 0.5]], [[0.1, 0.2, 0.7]]])
    assert one["probability"] == [[0.5, 0.5], [0.1, 0.2, 0.7]]
    assert many["probabilities"] == [[[0.5, 0.5], [0.1, 0.2, 0.7]]]
    named = (Field("left", Datatype.FP64), Field("right", Datatype.FP64))
    one, many = answers(named, [[1.0], [2.0]])
    assert one["prediction"] == {"left": 1.0, "right": 2.0}
    assert many["predictions"] == {"left": [1.0], "right": [2.0]}
    assert answers((score,), [[7.0]])[0]["prediction"] == 7.0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_numbers_survive_the_answer_exactly(values: list[float]) -> None:
    _, many = answers((Field("prediction", Datatype.FP64),), [values])
    assert many["predictions"] == values


def test_a_missing_answer_is_null() -> None:
    field = Field("prediction", Datatype.FP64, nullable=True)
    assert answers((field,), [[math.nan]])[0]["prediction"] is None
