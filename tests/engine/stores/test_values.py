"""Values: what comes out of a store is what the model gave, and nothing else is read."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.codecs.json_rows import JsonRows
from foretell.codecs.tables.arrow_tables import write_stream
from foretell.core.batch import Batch, Chosen
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.core.signature import Signature
from foretell.engine.stores.values import Value, Values

OUTPUTS = (Field("prediction", Datatype.FP64), Field("probability", Datatype.FP64, shape=(2,)))


def kept(outputs: Batch) -> Batch:
    """The same answers, by way of a store."""
    values = Values(outputs.fields)
    dtypes = values.dtypes_of(outputs)
    written = [values.write(Value(dtypes, row)) for row in outputs.plain_rows()]
    read = [values.read(one) for one in written if one is not None]
    return values.joined([one for one in read if one is not None])


@pytest.mark.parametrize(
    ("whole", "row"), [(np.array([11, 12]), 12.5), (np.array([1, 2], np.int32), 10**12)]
)
def test_rows_of_different_runs_keep_their_numbers(whole: Array, row: float) -> None:
    """A model in code may answer whole numbers for some rows, and others for the rest."""
    values = Values((Field("x", Datatype.FP64),))
    dtypes = values.dtypes_of(Batch.from_columns(values.fields, [whole]))
    assert dtypes
    for several in (
        [Value(dtypes, (11,)), Value("", (row,))],
        [Value("", (row,)), Value(dtypes, (11,))],
    ):
        joined = values.joined(several)
        assert [one for (one,) in joined.plain_rows()] == [
            one for (one,) in (s.row for s in several)
        ]
        assert joined.column("x").tolist() == [float(s.row[0]) for s in several]


@pytest.mark.parametrize("prediction", [np.float64, np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("probability", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("n_rows", [1, 3])
def test_every_door_writes_the_same_bytes(prediction: Any, probability: Any, n_rows: int) -> None:
    first = np.arange(n_rows).astype(prediction)
    second = (np.arange(2 * n_rows).reshape(n_rows, 2) / 3).astype(probability)
    outputs = Batch.from_columns(OUTPUTS, [first, second])
    again = kept(outputs)
    codec = JsonRows(Signature(OUTPUTS, OUTPUTS))
    assert codec.encode_rows(again, "1") == codec.encode_rows(outputs, "1")
    if n_rows == 1:
        assert codec.encode_row(again, "1") == codec.encode_row(outputs, "1")
    assert write_stream(again) == write_stream(outputs)
    for one, other in zip(again.columns, outputs.columns, strict=True):
        assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())


@pytest.mark.parametrize(
    ("field", "column"),
    [
        (Field("prediction", Datatype.BYTES), np.array(["a", "é\0", ""], dtype=object)),
        (Field("prediction", Datatype.BYTES, nullable=True), np.array([None, "x"], dtype=object)),
        (Field("prediction", Datatype.BYTES), Chosen(np.array(["a", "b"], object), np.arange(2))),
        (Field("prediction", Datatype.BOOL), np.array([True, False])),
        (Field("prediction", Datatype.BOOL, nullable=True), np.array([True, None], dtype=object)),
        (Field("prediction", Datatype.UINT64), np.array([2**64 - 1], dtype=np.uint64)),
        (Field("prediction", Datatype.FP64, nullable=True), np.array([np.nan, -0.0, 5e-324])),
        (Field("prediction", Datatype.BYTES, shape=(2,)), np.array([["a", "b"]], dtype=object)),
        (Field("prediction", Datatype.INT8, shape=(1, -1)), np.arange(6, dtype="i1")[None, None]),
    ],
)
def test_every_kind_of_output_comes_back(field: Field, column: Array | Chosen) -> None:
    outputs = Batch.from_columns((field,), [column])
    again, wanted = kept(outputs).columns[0], outputs.columns[0]
    assert (again.dtype, again.shape) == (wanted.dtype, wanted.shape)
    assert repr(again.tolist()) == repr(wanted.tolist())


def test_text_that_is_no_unicode_is_not_kept() -> None:
    values = Values((Field("prediction", Datatype.BYTES),))
    assert values.write(Value("", ("\ud800",))) is None


@settings(deadline=None)
@given(
    junk=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers(-9, 9) | st.text(max_size=2), lambda one: st.lists(one, max_size=3)
    ).map(msgspec.msgpack.encode)
)
def test_what_is_no_row_of_these_outputs_is_none(junk: bytes) -> None:
    read = Values(OUTPUTS).read(junk)
    if read is not None:
        assert isinstance(read.row[0], int | float)
        assert all(isinstance(part, int | float) for part in read.row[1])


def test_rows_of_different_shapes_do_not_become_one_answer() -> None:
    values = Values((Field("prediction", Datatype.FP64, shape=(-1,)),))
    with pytest.raises(ValueError, match="different shapes"):
        values.joined([Value("", ([1.0],)), Value("", ([1.0, 2.0],))])
