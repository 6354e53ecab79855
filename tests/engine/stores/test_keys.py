"""Keys: two rows share one if and only if the model sees the same row of the same package."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import Artifact, Manifest, Step
from foretell.core.signature import Signature
from foretell.engine.stores.keys import Keys, identity

X = Field("x", Datatype.FP64)


def manifest(**changed: Any) -> Manifest:
    plain = Manifest(
        name="m",
        version="1",
        created_at="2026-01-01T00:00:00Z",
        signature=Signature((X,), (Field("prediction", Datatype.FP64),)),
        steps=(Step("onnx", ("model.onnx",)),),
        files=(Artifact("model.onnx", "a" * 64, 10),),
    )
    return replace(plain, **changed)


def key_of(field: Field, value: object) -> bytes:
    """The key of one value, as it is after the signature has accepted it."""
    return Keys(bytes(32), (field,)).one((field.accept(value),))


def field_of(datatype: Datatype, **more: Any) -> Field:
    return Field("x", datatype, nullable=not datatype.is_integer, **more)


def values_of(datatype: Datatype) -> st.SearchStrategy[Any]:
    """What clients send for a field of this datatype, the awkward ones often."""
    made: st.SearchStrategy[Any]
    if datatype is Datatype.BOOL:
        made = st.booleans()
    elif datatype is Datatype.BYTES:
        made = st.text(max_size=3) | st.sampled_from(["", "a", "ab", "\0", "\ud800", "\ufeff"])
    elif datatype.is_float:
        width = {Datatype.FP16: 16, Datatype.FP32: 32, Datatype.FP64: 64}[datatype]
        special = st.sampled_from([0.0, -0.0, 0, 1, 1.0, math.nan, -math.nan, 0.1, 2**11 + 1])
        made = special | st.floats(width=width, allow_infinity=False)  # type: ignore[arg-type]
    else:
        low, high = map(int, datatype.limits)
        near = [0, 1, 1.0, low, high, *(n for n in (2**53, 2**53 + 1) if n <= high)]
        return st.sampled_from(near) | st.integers(low, high)
    return made | st.none()


def same(one: object, other: object) -> bool:
    """Whether a model could not tell two accepted values of one field apart."""
    if one is None or other is None:
        return one is other
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return struct.pack("d", one) == struct.pack("d", other)
    return type(one) is type(other) and one == other


fields = st.lists(st.sampled_from(list(Datatype)), min_size=1, max_size=4)


@settings(deadline=None)
@given(data=st.data(), datatypes=fields)
def test_rows_share_a_key_just_when_no_model_could_tell_them_apart(
    data: st.DataObject, datatypes: list[Datatype]
) -> None:
    known = tuple(replace(field_of(one), name=f"f{at}") for at, one in enumerate(datatypes))
    one, other = (
        tuple(field.accept(data.draw(values_of(field.datatype))) for field in known)
        for _ in range(2)
    )
    keys = Keys(bytes(32), known)
    expected = all(map(same, one, other))
    assert (keys.one(one) == keys.one(other)) is expected


@settings(deadline=None)
@given(data=st.data(), datatypes=fields, n_rows=st.integers(1, 5))
def test_a_row_has_one_key_whichever_form_its_batch_has(
    data: st.DataObject, datatypes: list[Datatype], n_rows: int
) -> None:
    known = tuple(replace(field_of(one), name=f"f{at}") for at, one in enumerate(datatypes))
    wide = tuple(
        replace(one, datatype=Datatype.FP64) if one.datatype.is_float else one for one in known
    )
    rows = [
        tuple(field.accept(data.draw(values_of(field.datatype))) for field in wide)
        for _ in range(n_rows)
    ]
    keys = Keys(bytes(32), wide)
    plain = Batch.from_rows(wide, rows)
    columns = Batch.from_columns(wide, plain.slice(0, n_rows).columns)
    assert keys.of(columns) == keys.of(plain)
    assert columns.dtypes is not None, "it has become a batch of rows, which models read slowly"
    assert keys.of(plain) == [keys.one(row) for row in rows]


@pytest.mark.parametrize(
    ("datatype", "one", "other", "shared"),
    [
        (Datatype.FP64, 0.0, -0.0, False),
        (Datatype.FP64, 1, 1.0, True),
        (Datatype.FP64, None, math.nan, True),
        (Datatype.FP64, None, 0.0, False),
        (Datatype.FP32, 0.1, float(np.float32(0.1)), False),
        (Datatype.INT64, 1, 1.0, True),
        (Datatype.INT64, 2**53, 2**53 + 1, False),
        (Datatype.UINT64, 2**64 - 1, 2**64 - 2, False),
        (Datatype.BOOL, None, False, False),
        (Datatype.BYTES, None, "", False),
        (Datatype.BYTES, "1", "1.0", False),
    ],
)
def test_what_is_decided_of_values_that_are_nearly_the_same(
    datatype: Datatype, one: object, other: object, shared: bool
) -> None:
    field = field_of(datatype)
    assert (key_of(field, one) == key_of(field, other)) is shared


def test_all_bits_of_nan_are_one() -> None:
    (odd,) = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_BEEF))
    assert math.isnan(odd)
    assert key_of(field_of(Datatype.FP64), odd) == key_of(field_of(Datatype.FP64), None)


def test_texts_do_not_run_into_one_another() -> None:
    keys = Keys(bytes(32), (field_of(Datatype.BYTES), Field("y", Datatype.BYTES)))
    assert keys.one(("ab", "c")) != keys.one(("a", "bc"))


@pytest.mark.parametrize("datatype", list(Datatype))
@settings(deadline=None)
@given(data=st.data())
def test_arrays_of_any_size_do_not_run_into_one_another(
    data: st.DataObject, datatype: Datatype
) -> None:
    field = field_of(datatype, shape=(-1, -1))
    leaf = st.sampled_from([0, 1]) if datatype.is_numeric else values_of(datatype)
    if datatype.is_float:
        leaf = leaf | st.none()
    sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))
    told = []
    for _ in range(2):
        height, width = data.draw(sizes)
        row = st.lists(leaf, min_size=width, max_size=width)
        told.append(field.accept(data.draw(st.lists(row, min_size=height, max_size=height))))
    keys = Keys(bytes(32), (field,))
    one, other = (keys.one((array,)) for array in told)
    equal = told[0].shape == told[1].shape and all(
        map(same, told[0].ravel().tolist(), told[1].ravel().tolist())
    )
    assert (one == other) is equal
    assert one == keys.one((told[0].tolist(),))  # as the rows of a column have it


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "n"},
        {"version": "2"},
        {"created_at": "2026-01-01T00:00:01Z"},
        {"files": (Artifact("model.onnx", "b" * 64, 10),)},
        {"steps": (Step("onnx", ("model.onnx",), {"threads": 2}),)},
        {"libraries": {"numpy": "2.0"}},
        {"signature": Signature((replace(X, maximum=9.0),), (Field("prediction", X.datatype),))},
    ],
)
def test_another_package_is_somebody_else(changed: dict[str, Any]) -> None:
    assert identity(manifest()) != identity(manifest(**changed))
    one, other = (Keys(identity(told), (X,)) for told in (manifest(), manifest(**changed)))
    assert one.one((1.0,)) != other.one((1.0,))


@settings(deadline=None)
@given(
    one=st.tuples(st.text("ab1.", min_size=1), st.text("ab1.", min_size=1)),
    other=st.tuples(st.text("ab1.", min_size=1), st.text("ab1.", min_size=1)),
)
def test_no_two_names_and_versions_are_the_same_package(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    told = []
    for name, version in (one, other):
        object.__setattr__(changed := manifest(), "name", name)
        object.__setattr__(changed, "version", version)
        told.append(identity(changed))
    assert (told[0] == told[1]) is (one == other)
