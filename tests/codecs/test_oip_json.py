"""Bodies of inference requests: JSON, JSON with binary tensors behind it, and nothing but bytes."""

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.codecs.oip_json import Asked, OipJson
from foretell.codecs.tensors import Tensor, to_raw
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

FIELDS = (
    Field("age", Datatype.FP64, nullable=True),
    Field("tenure", Datatype.INT64),
    Field("plan", Datatype.BYTES),
    Field("place", Datatype.FP32, shape=(2,)),
)
ECHO = OipJson(Signature(FIELDS, FIELDS))
DENSE = OipJson(
    Signature(
        (Field("a", Datatype.FP64), Field("b", Datatype.FP64)),
        (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64, shape=(3,))),
        class_labels=("x", "y", "z"),
    )
)
ONE_TEXT = OipJson(Signature((Field("text", Datatype.BYTES),), FIELDS[:1]))
PAIRS = OipJson(Signature((Field("pair", Datatype.FP32, shape=(2,)),), FIELDS[:1]))
OPEN = OipJson(Signature((Field("open", Datatype.FP32, shape=(-1,)),), FIELDS[:1]))

ROWS = st.lists(
    st.tuples(
        st.one_of(st.floats(allow_infinity=False), st.none()),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=6),
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2
        ),
    ),
    min_size=1,
    max_size=4,
)


def tensor(field: Field, values: list[Any], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """A request's tensor, and what of it comes after the JSON."""
    dtype = field.datatype.numpy
    column = np.array([math.nan if v is None else v for v in values], dtype=dtype)
    shape = [len(values), *field.shape]
    told = {"name": field.name, "datatype": field.datatype.value, "shape": shape}
    if not binary:
        plain = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
        return {**told, "data": plain}, b""
    raw = to_raw(Tensor(field.name, field.datatype, column.reshape(shape)))
    return {**told, "parameters": {"binary_data_size": len(raw)}}, raw


def ask(codec: OipJson, *tensors: tuple[dict[str, Any], bytes], **more: Any) -> Asked:
    header = json.dumps({"inputs": [told for told, _ in tensors], **more}).encode()
    raw = b"".join(raw for _, raw in tensors)
    return codec.decode(header + raw, len(header) if raw else None, max_rows=100)


def columns_of(batch: Batch) -> list[str]:
    return [repr(column.tolist()) for column in batch.columns]


@given(ROWS, st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_rows_go_round_whichever_tensors_are_binary(
    rows: list[Any], binary: list[bool], binary_reply: bool
) -> None:
    columns = [list(values) for values in zip(*rows, strict=True)]
    sent = [
        tensor(field, values, binary=way)
        for field, values, way in zip(FIELDS, columns, binary, strict=True)
    ]
    asked = ask(ECHO, *sent, id="7", parameters={"binary_data_output": binary_reply})
    expected = [
        np.array([math.nan if v is None else v for v in values], dtype=field.datatype.numpy)
        for field, values in zip(FIELDS, columns, strict=True)
    ]
    assert columns_of(asked.batch) == [repr(column.tolist()) for column in expected]

    reply = ECHO.encode(asked.batch, asked, model="echo", version="1")
    assert (reply.header_length is not None) == binary_reply
    told = json.loads(reply.body[: reply.header_length])
    assert (told["model_name"], told["model_version"], told["id"]) == ("echo", "1", "7")
    # A reply's outputs have the form of a request's inputs, and mean the same.
    again = ask_raw(
        ECHO, told["outputs"], reply.body[reply.header_length :] if binary_reply else b""
    )
    assert columns_of(again.batch) == columns_of(asked.batch)


def ask_raw(codec: OipJson, inputs: list[Any], raw: bytes) -> Asked:
    return ask(codec, *((told, raw if at == 0 else b"") for at, told in enumerate(inputs)))


def matrix(**change: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0], **change}


def body(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the body is empty"),
        (b"[]", "no inference request: Expected `object`, got `array`"),
        (b"{}", "missing required field `inputs`"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b'{"inputs": [{"data": ' + b"[" * 100_000, "nested too deeply"),
        (body(), "input 'a' is missing"),
        (body(matrix(shape=[-1, 2])), "must be up to 64 sizes from 0 up"),
        (body(matrix(shape=[2, -5])), "must be up to 64 sizes from 0 up"),
        (body(matrix(shape=[2**4, 2**60 + 2])), "is for 18446744073709551648"),
        (body(matrix(shape=[2**70, 2])), "has 2 values"),
        (body(matrix(shape=[0, 2], data=[])), "there are no rows"),
        (body(matrix(shape=[1.0, 2])), "Expected `int`, got `float`"),
        (body(matrix(shape=[True, 2])), "Expected `int`, got `bool`"),
        (body(matrix(datatype="BF16")), "must be one of BOOL"),
        (body(matrix(data=None)), "input 'x' has no data"),
        (body(matrix(data=5)), "Expected `array | null`, got `int`"),
        (body(matrix(data=[[[1.0]], [[2.0, 3.0]]])), "ragged"),
        (body(matrix(data=["1", "2"])), "not FP64"),
        (body(matrix(datatype="BYTES", data=["1", "2"])), "'a' is \"1\", but must be a number"),
        (body(matrix(datatype="BOOL", data=[True, True])), "'a' is true, but must be a number"),
        (
            body(matrix(name="a", shape=[1], data=[1.0]), matrix(name="a", shape=[1], data=[1.0])),
            "twice",
        ),
        (body(matrix(), matrix(name="b", shape=[1], data=[1.0])), "there is no input 'x'"),
        (body(matrix(parameters={"binary_data_size": 16})), "data and binary_data_size"),
        (
            body(matrix(data=None, parameters={"binary_data_size": 16})),
            "has 16 bytes by its binary_data_size, but after the JSON",
        ),
        (body(matrix(data=None, parameters={"binary_data_size": -1})), "must be a whole number"),
        (body(matrix(data=None, parameters={"binary_data_size": True})), "must be a whole number"),
        (body(matrix(parameters={"shared_memory_region": "r"})), "in shared memory"),
        (body(matrix(), outputs=[{"name": "x"}]), "no output 'x'"),
        (
            body(matrix(), outputs=[{"name": "prediction"}, {"name": "prediction"}]),
            "output 'prediction' was asked for twice",
        ),
        (
            body(matrix(), outputs=[{"name": "prediction", "parameters": {"binary_data": 1}}]),
            "'binary_data' of output 'prediction' is 1, but must be true or false",
        ),
        (
            body(matrix(), outputs=[{"name": "prediction", "parameters": {"classification": -1}}]),
            "must be a whole number from 0",
        ),
        (body(matrix(), parameters={"binary_data_output": "yes"}), "must be true or false"),
        (body(matrix(), parameters={"timeout": -1}), "must be a whole number"),
        (body(matrix(), parameters={"timeout": 1.5}), "must be a whole number"),
        (body(matrix(), id=7), "Expected `str | null`, got `int`"),
    ],
)
def test_what_is_no_request_is_refused(sent: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        DENSE.decode(sent, None, max_rows=100)
    assert words in refused.value.message


BINARY = body(matrix(data=None, parameters={"binary_data_size": 16}))
PAIR = struct.pack("<2d", 1, 2)


@pytest.mark.parametrize(
    ("sent", "length", "words"),
    [
        (BINARY + PAIR, len(BINARY) + 17, "but the body has 134 bytes"),
        (BINARY + PAIR, len(BINARY) + 1, "not valid JSON"),
        (BINARY + PAIR, len(BINARY) - 1, "not valid JSON"),
        (BINARY + PAIR[:-1], len(BINARY), "but after the JSON"),
        (BINARY + PAIR + b"?", len(BINARY), "1 bytes of the body belong to no input"),
        (body(matrix()) + PAIR, len(body(matrix())), "16 bytes of the body belong to no input"),
    ],
)
def test_a_header_length_that_does_not_fit_is_refused(sent: bytes, length: int, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        DENSE.decode(sent, length, max_rows=100)
    assert words in refused.value.message


def test_a_raw_body_is_the_only_input_and_its_reply_is_binary() -> None:
    asked = DENSE.decode(PAIR * 3, 0, max_rows=100)
    assert asked.batch.matrix.tolist() == [[1.0, 2.0]] * 3
    assert all(wanted.binary for wanted in asked.wanted)
    assert PAIRS.decode(b"\0" * 16, 0, max_rows=100).batch.columns[0].shape == (2, 2)
    assert ONE_TEXT.decode("ä".encode(), 0, max_rows=100).batch.columns[0].tolist() == ["ä"]


@pytest.mark.parametrize(
    ("codec", "sent", "words"),
    [
        (DENSE, PAIR[:-1], "'inputs' has 15 bytes, but a row of it has 16"),
        (DENSE, b"", "there are no rows"),
        (PAIRS, b"\0" * 12, "a row of it has 8"),
        (OPEN, b"\0" * 8, "does not follow from the size of a raw request"),
        (ECHO, PAIR, "is for models with one input"),
        (ONE_TEXT, b"\xff", "not UTF-8"),
    ],
)
def test_a_raw_body_that_says_too_little_is_refused(
    codec: OipJson, sent: bytes, words: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        codec.decode(sent, 0, max_rows=100)
    assert words in refused.value.message


def test_too_many_rows_are_refused_in_every_form() -> None:
    with pytest.raises(TooLarge):
        DENSE.decode(PAIR * 3, 0, max_rows=2)
    with pytest.raises(TooLarge):
        DENSE.decode(body(matrix(shape=[3, 2], data=[0] * 6)), None, max_rows=2)


OUTPUTS = Batch.from_columns(
    DENSE.signature.outputs,
    [np.array([1, 2]), np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])],
)


def test_outputs_come_as_and_in_the_order_they_were_asked_for() -> None:
    wanted = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    asked = DENSE.decode(body(matrix(), outputs=wanted), None, max_rows=9)
    reply = DENSE.encode(OUTPUTS, asked, model="m", version="v")
    told = json.loads(reply.body[: reply.header_length])
    assert told == {
        "model_name": "m",
        "model_version": "v",
        "outputs": [
            {
                "name": "probability",
                "datatype": "FP64",
                "shape": [2, 3],
                "parameters": {"binary_data_size": 48},
            },
            {"name": "prediction", "datatype": "INT64", "shape": [2], "data": [1, 2]},
        ],
    }
    assert reply.header_length is not None
    assert reply.body[reply.header_length :] == OUTPUTS.columns[1].tobytes()


def test_an_outputs_own_wish_wins_over_the_requests() -> None:
    wanted = [{"name": "prediction", "parameters": {"binary_data": False}}]
    parameters = {"binary_data_output": True}
    asked = DENSE.decode(body(matrix(), outputs=wanted, parameters=parameters), None, max_rows=9)
    assert DENSE.encode(OUTPUTS, asked, model="m", version="v").header_length is None


def test_classification_names_the_class_labels() -> None:
    wanted = [{"name": "probability", "parameters": {"classification": 2}}]
    asked = DENSE.decode(body(matrix(), outputs=wanted), None, max_rows=9)
    (told,) = json.loads(DENSE.encode(OUTPUTS, asked, model="m", version="v").body)["outputs"]
    assert (told["datatype"], told["shape"]) == ("BYTES", [2, 2])
    assert told["data"] == ["0.5:1:y", "0.25:0:x", "1.0:0:x", "0.0:1:y"]
    text = [{"name": "plan", "parameters": {"classification": 1}}]
    with pytest.raises(InvalidInput, match="no greatest values"):
        ECHO.decode(body(outputs=text), None, max_rows=9)


def test_a_timeout_is_in_microseconds_and_zero_is_none() -> None:
    assert DENSE.decode(
        body(matrix(), parameters={"timeout": 1500}), None, max_rows=9
    ).timeout_s == (0.0015)
    assert DENSE.decode(body(matrix(), parameters={"timeout": 0}), None, max_rows=9).timeout_s == 0
    others = {"priority": 2, "sequence_id": 7, "content_type": "np", "mine": "x"}
    assert DENSE.decode(body(matrix(), parameters=others), None, max_rows=9).timeout_s == 0
