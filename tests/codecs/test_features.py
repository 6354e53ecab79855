"""Features are read as the signature wants them, and what they can't carry is said."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.codecs import messages
from foretell.codecs.features import Features
from foretell.core.batch import Batch
from foretell.core.field import Datatype, Field
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


def test_answers_are_written_in_32_bits() -> None:
    features = Features(MIXED)
    outputs = Batch.from_rows(BOTH, [(1, [0.1, 0.9]), (0, [0.75, 0.25])])
    one = messages.message("prediction.PredictResponse").FromString(
        features.write_one(outputs.slice(0, 1), "1.2.3")
    )
    assert (one.prediction, one.model_version) == (1, "1.2.3")
    assert list(one.probabilities) == list(struct.unpack("2f", struct.pack("2f", 0.1, 0.9)))
    many = messages.message("prediction.BatchPredictResponse").FromString(
        features.write_many(outputs)
    )
    assert list(many.predictions) == [1, 0]
    assert [list(part.values) for part in many.probabilities][1] == [0.75, 0.25]
    with pytest.raises(OverflowError, match="does not fit into 32 bits"):
        features.write_one(Batch.from_rows(BOTH, [(2**31, [0.0, 1.0])]), "1")


def test_many_rows_name_the_one_that_is_wrong() -> None:
    request = messages.message("prediction.BatchPredictRequest")()
    features = Features(MIXED)
    with pytest.raises(InvalidInput, match="at least one row"):
        features.batch(request.instances, max_rows=5)
    for value in (1.0, 2.5):
        request.instances.add(features=[0.5, value, 0.5, 1, 0.5])
    with pytest.raises(InvalidInput, match=r"row 1: 'whole' is 2\.5") as told:
        features.batch(request.instances, max_rows=5)
    assert told.value.row == 1
    with pytest.raises(TooLarge, match="limit is 1"):
        features.batch(request.instances, max_rows=1)
