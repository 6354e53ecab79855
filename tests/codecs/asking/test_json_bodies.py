"""The two sides of the JSON codec: what one writes, the other reads, bit for bit."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.codecs.asking.json_bodies import JsonAsking, version_in
from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature

VALUES: dict[Datatype, st.SearchStrategy[Any]] = {
    Datatype.FP64: st.floats(allow_nan=False, allow_infinity=False),
    Datatype.FP32: st.floats(width=32, allow_nan=False, allow_infinity=False),
    Datatype.INT64: st.integers(-(2**63), 2**63 - 1),
    Datatype.UINT64: st.integers(0, 2**64 - 1),
    Datatype.UINT8: st.integers(0, 255),
    Datatype.BOOL: st.booleans(),
    Datatype.BYTES: st.text(),
}
NAMES = ["prediction", "probability", "probability_0", "probability_1", "score", "features"]


@st.composite
def fields(draw: st.DrawFn, names: list[str]) -> tuple[Field, ...]:
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    made = []
    for name in chosen:
        datatype = draw(st.sampled_from(list(VALUES)))
        shape = draw(st.sampled_from([(), (2,), (2, 3)]))
        nullable = not datatype.is_integer and not shape and draw(st.booleans())
        made.append(Field(name, datatype, shape=shape, nullable=nullable))
    return tuple(made)


def value(field: Field) -> st.SearchStrategy[Any]:
    one = VALUES[field.datatype]
    for size in reversed(field.shape):
        one = st.lists(one, min_size=size, max_size=size)
    return st.none() | one if field.nullable else one


@st.composite
def batches(draw: st.DrawFn, names: list[str]) -> Batch:
    made = draw(fields(names))
    rows = draw(st.lists(st.tuples(*map(value, made)), min_size=1, max_size=4))
    accepted = [tuple(f.accept(v) for f, v in zip(made, row, strict=True)) for row in rows]
    return Batch.from_columns(made, Batch.from_rows(made, accepted).columns)


def assert_same(got: Batch, wanted: Batch) -> None:
    assert got.fields == wanted.fields
    for one, other in zip(got.columns, wanted.columns, strict=True):
        assert one.shape == other.shape
        if other.dtype == object:  # booleans that are all there may come as such
            assert one.tolist() == other.tolist()
        else:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@given(batches(NAMES), st.text())
def test_answers_are_read_as_they_were(outputs: Batch, version: str) -> None:
    signature = Signature((Field("x", Datatype.FP64),), outputs.fields)
    server, client = JsonRows(signature), JsonAsking(signature)
    body = server.encode_rows(outputs, version)
    got, told = client.read_rows(body)
    assert told == version == version_in(body)
    assert_same(got, outputs)
    first = outputs.slice(0, 1)
    got, told = client.read_row(
        server.encode_row(Batch.from_columns(first.fields, first.columns), version)
    )
    assert told == version
    assert_same(got, first)


@given(batches([*NAMES, 'a "quoted" one', "ü"]))
def test_requests_are_read_as_they_were(inputs: Batch) -> None:
    signature = Signature(inputs.fields, (Field("prediction", Datatype.FP64),))
    server, client = JsonRows(signature), JsonAsking(signature)
    assert_same(server.decode_rows(client.write_rows(inputs), max_rows=10), inputs)
    row = server.decode_row(client.write_row(inputs.slice(0, 1)))
    assert_same(Batch.from_rows(inputs.fields, [row]), inputs.slice(0, 1))


def test_missing_values_go_and_come_as_null() -> None:
    signature = Signature(
        (Field("x", Datatype.FP64, nullable=True), Field("s", Datatype.BYTES, nullable=True)),
        (Field("prediction", Datatype.FP64, nullable=True),),
    )
    client = JsonAsking(signature)
    batch = Batch.from_rows(signature.inputs, [(math.nan, None)])
    assert client.write_row(batch) == b'{"features":[null,null]}'
    got, _ = client.read_rows(b'{"predictions": [null, 1.5], "model_version": "1"}')
    np.testing.assert_array_equal(got.columns[0], [np.nan, 1.5])


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"predictions": [1.0]}', b"7"])
def test_a_body_that_is_no_answer_is_told_from_one(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        version_in(body)
    client = JsonAsking(
        Signature((Field("x", Datatype.FP64),), (Field("prediction", Datatype.FP64),))
    )
    with pytest.raises((ValueError, KeyError)):
        client.read_rows(body)
