"""Features are read as the signature wants them, and what they can't carry is said."""

import math
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from foretell.codecs import messages
from foretell.codecs.features import Features
from foretell.core.batch import FEW_ROWS, Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

LABEL = Field("prediction", Datatype.INT64)
BOTH = (LABEL, Field("probability", Datatype.FP64, shape=(2,)))
MIXED = Signature(
    (
        Field("real", Datatype.FP64),
        Field("whole", Datatype.INT64, minimum=-(2.0**53), maximum=2.0**53),
        Field("gaps", Datatype.FP32, nullable=True),
        Field("small", Datatype.INT8),
        Field("bounded", Datatype.FP64, minimum=-1.0, maximum=1.0),
    ),
    BOTH,
)
NUMBERS = Signature(tuple(Field(name, Datatype.FP64) for name in "abcde"), BOTH)
FREE = Signature((Field("x", Datatype.FP32, shape=(-1,)),), BOTH)
VECTOR = Signature((Field("x", Datatype.FP32, shape=(5,)),), BOTH)
single = st.floats(width=32)


def told_of(accept: Callable[[list[float]], Any], numbers: list[float]) -> str:
    """The row, or why it is none."""
    try:
        return repr(accept(numbers))
    except InvalidInput as error:
        return error.message


@given(st.lists(single | st.integers(-200, 200).map(float), min_size=4, max_size=6))
def test_the_quick_way_allows_what_the_signature_allows(numbers: list[float]) -> None:
    features = Features(MIXED)
    assert told_of(features.row, numbers) == told_of(MIXED.accept_row, numbers)


def test_a_vector_takes_all_features() -> None:
    signature = Signature((Field("x", Datatype.FP32, shape=(3,)),), BOTH)
    (value,) = Features(signature).row([1.0, 2.0, 3.0])
    assert value.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(InvalidInput, match="array of 3 values"):
        Features(signature).row([1.0])


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ((Field("plan", Datatype.BYTES),), BOTH, "'plan' is a string"),
        ((Field("on", Datatype.BOOL),), BOTH, "'on' is true or false"),
        ((Field("a", Datatype.FP64, shape=(2,)), Field("b", Datatype.FP64)), BOTH, "'a' is an arr"),
        (MIXED.inputs, (Field("prediction", Datatype.FP64),), "whole numbers"),
        (MIXED.inputs, (Field("prediction", Datatype.BYTES),), "whole numbers"),
        (MIXED.inputs, (Field("prediction", Datatype.INT64, shape=(2,)),), "whole numbers"),
        (MIXED.inputs, (Field("score", Datatype.INT64),), "whole numbers"),
    ],
)
def test_what_the_messages_cannot_carry_is_said(
    inputs: tuple[Field, ...], outputs: tuple[Field, ...], words: str
) -> None:
    refusal = Features(Signature(inputs, outputs)).refusal
    assert refusal is not None
    assert words in refusal
    assert "inference.GRPCInferenceService" in refusal


def test_whole_float_labels_are_carried_others_are_not() -> None:
    outputs = (Field("prediction", Datatype.FP64),)
    assert Features(Signature(MIXED.inputs, outputs, class_labels=(0.0, 1.0))).refusal is None
    assert Features(Signature(MIXED.inputs, outputs, class_labels=(0.5, 1.0))).refusal is not None


def asked(name: str, **fields: Any) -> bytes:
    written: bytes = messages.message(f"prediction.{name}")(**fields).SerializeToString()
    return written


@pytest.mark.parametrize("n_rows", [1, 3, FEW_ROWS, FEW_ROWS + 1, 200])
@pytest.mark.parametrize(
    "signature", [MIXED, NUMBERS, VECTOR, FREE], ids=["mixed", "numbers", "vector", "free"]
)
def test_rows_are_read_as_protobuf_reads_them(signature: Signature, n_rows: int) -> None:
    rows = [[0.5, float(n), -0.25, 7.0, 1.0] for n in range(n_rows)]
    features = Features(signature)
    payload = asked("BatchPredictRequest", instances=[{"features": row} for row in rows])
    expected = Batch.from_rows(signature.inputs, [features.row(row) for row in rows])
    read = features.read_many(payload, max_rows=n_rows)
    strange = payload + b"\x7a\x01?"  # a field that is not known: protobuf reads it
    for batch in (read, features.read_many(strange, max_rows=n_rows)):
        assert batch.n_rows == n_rows
        for column, known in zip(batch.columns, expected.columns, strict=True):
            assert (column.dtype, column.tolist()) == (known.dtype, known.tolist())
            assert column.flags.writeable
    (row,) = features.read_one(asked("PredictRequest", features=rows[0])).rows
    assert str(row) == str(features.row(rows[0]))


WIDE = Signature(
    (
        Field("a", Datatype.INT64),
        Field("b", Datatype.UINT64),
        Field("c", Datatype.INT32, minimum=-3.0),
        Field("d", Datatype.FP64, nullable=True, maximum=1e30),
        Field("e", Datatype.FP16),
    ),
    BOTH,
)


@pytest.mark.parametrize("signature", [MIXED, WIDE], ids=["mixed", "wide"])
@given(
    st.lists(
        single
        | st.integers(-200, 200).map(float)
        | st.sampled_from([2.0**63, -(2.0**63), 2.0**64, 2.0**31, 2.0**31 - 128, 65504.0, 65536.0]),
        min_size=5,
        max_size=5,
    ),
    st.integers(0, FEW_ROWS),
)
def test_many_rows_at_once_are_allowed_what_one_is(
    signature: Signature, numbers: list[float], place: int
) -> None:
    features = Features(signature)
    rows = [[0.0] * 5] * (FEW_ROWS + 1)
    rows[place] = numbers
    payload = asked("BatchPredictRequest", instances=[{"features": row} for row in rows])
    try:
        expected = Batch.from_rows(signature.inputs, [features.row(row) for row in rows])
    except InvalidInput as error:
        words = re.escape(f"row {place}: {error.message}")
        with pytest.raises(InvalidInput, match=f"^{words}$"):
            features.read_many(payload, max_rows=len(rows))
        return
    read = features.read_many(payload, max_rows=len(rows))
    for column, known in zip(read.columns, expected.columns, strict=True):
        assert column.dtype == known.dtype
        np.testing.assert_array_equal(column, known)


@pytest.mark.parametrize(
    "payload",
    [
        b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.0, 2.0)),  # one by one
        b"\x0a\x04\x00\x00\x80\x3f\x0a\x04\x00\x00\x00\x40",  # packed in two parts
        b"\x0a\x88\x00\x00\x00\x80\x3f\x00\x00\x00\x40",  # its length in two bytes
        b"\x7a\x01?\x0a\x08\x00\x00\x80\x3f\x00\x00\x00\x40",  # behind an unknown field
    ],
)
def test_a_row_that_lies_otherwise_is_read(payload: bytes) -> None:
    signature = Signature((Field("a", Datatype.FP64), Field("b", Datatype.FP64)), BOTH)
    features = Features(signature)
    assert list(features.read_one(payload).rows) == [(1.0, 2.0)]
    wrapped = b"\x0a" + bytes([len(payload)]) + payload
    for times in (1, FEW_ROWS + 1):
        batch = features.read_many(wrapped * times, max_rows=times)
        assert [tuple(row) for row in batch.rows] == [(1.0, 2.0)] * times


def test_rows_of_which_one_lies_otherwise_are_read() -> None:
    signature = Signature((Field("a", Datatype.FP64), Field("b", Datatype.FP64)), BOTH)
    plain = asked("BatchPredictRequest", instances=[{"features": (1.0, 2.0)}])
    # As long as the others, and another row: its numbers are those of a second field.
    other = b"\x0a\x0a" + b"\x0a\x04" + struct.pack("<f", 5.0) + b"\x12\x02??"
    for times in (1, FEW_ROWS):
        with pytest.raises(InvalidInput, match=f"row {times}: the row has 1 values"):
            Features(signature).read_many(plain * times + other, max_rows=100)


@given(st.binary(max_size=40))
def test_bytes_are_read_as_protobuf_reads_them_or_not_at_all(payload: bytes) -> None:
    signature = Signature((Field("a", Datatype.FP64),), BOTH)
    features = Features(signature)
    try:
        told = messages.message("prediction.PredictRequest").FromString(payload).features
    except DecodeError:
        with pytest.raises(DecodeError):
            features.read_one(payload)
        return
    assert told_of(lambda _: features.read_one(payload).rows[0], []) == told_of(features.row, told)


def test_answers_are_written_in_32_bits() -> None:
    features = Features(MIXED)
    outputs = Batch.from_rows(BOTH, [(1, [0.1, 0.9]), (0, [0.75, 0.25])])
    one = messages.message("prediction.PredictResponse").FromString(
        features.write_one(outputs.slice(0, 1), "1.2.3")
    )
    assert (one.prediction, one.model_version) == (1, "1.2.3")
    assert list(one.probabilities) == list(struct.unpack("2f", struct.pack("2f", 0.1, 0.9)))
    with pytest.raises(OverflowError, match="does not fit into 32 bits"):
        features.write_one(Batch.from_rows(BOTH, [(2**31, [0.0, 1.0])]), "1")


@pytest.mark.parametrize("probability", [(), (2,), (-1,), None], ids=str)
@pytest.mark.parametrize("labels", [[1], [0], [-3, 300, 7], [0, 0]], ids=str)
def test_answers_are_what_protobuf_writes(
    probability: tuple[int, ...] | None, labels: list[int]
) -> None:
    outputs: tuple[Field, ...] = (LABEL,)
    if probability is not None:
        outputs += (Field("probability", Datatype.FP64, shape=probability),)
    features = Features(Signature(MIXED.inputs, outputs))
    values: Any = [0.1, math.nan] if probability != () else 0.1
    listed = values if isinstance(values, list) else [values]
    rows = [(label, values)[: len(outputs)] for label in labels]
    told: dict[str, Any] = {} if probability is None else {"probabilities": listed}
    for _ in range(2):  # what was written once is kept
        assert features.write_one(Batch.from_rows(outputs, rows[:1]), "7") == asked(
            "PredictResponse", prediction=labels[0], model_version="7", **told
        )
    many = [] if probability is None else [{"values": listed}] * len(labels)
    assert features.write_many(Batch.from_rows(outputs, rows)) == asked(
        "BatchPredictResponse", predictions=labels, probabilities=many
    )


def test_a_probability_beyond_32_bits_is_refused() -> None:
    outputs = Batch.from_rows(BOTH, [(1, [0.0, 1e300])])
    features = Features(MIXED)
    with pytest.raises(OverflowError):
        features.write_one(outputs, "1")
    with pytest.raises(OverflowError):
        features.write_many(outputs)


def test_many_rows_name_the_one_that_is_wrong() -> None:
    features = Features(MIXED)
    with pytest.raises(InvalidInput, match="at least one row"):
        features.read_many(b"", max_rows=5)
    for times in (1, FEW_ROWS):
        rows = [{"features": [0.5, 1.0, 0.5, 1, 0.5]}] * times
        rows.append({"features": [0.5, 2.5, 0.5, 1, 0.5]})
        payload = asked("BatchPredictRequest", instances=rows)
        with pytest.raises(InvalidInput, match=rf"row {times}: 'whole' is 2\.5") as told:
            features.read_many(payload, max_rows=500)
        assert told.value.row == times
        with pytest.raises(TooLarge, match=f"limit is {times}"):
            features.read_many(payload, max_rows=times)
