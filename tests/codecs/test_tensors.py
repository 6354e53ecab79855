"""Tensors: what goes out comes in again, and nothing is guessed or allocated on a mere word."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foretell.codecs.tensors import (
    Tensor,
    Tensors,
    classified,
    count_of,
    datatype_of,
    from_raw,
    from_values,
    to_raw,
)
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

FP64, INT64, BYTES, BOOL = Datatype.FP64, Datatype.INT64, Datatype.BYTES, Datatype.BOOL
NUMBERS = Signature(
    (Field("a", FP64), Field("b", INT64), Field("c", FP64, nullable=True)),
    (Field("prediction", FP64), Field("label", BYTES)),
)
DENSE = Signature((Field("a", FP64), Field("b", FP64, nullable=True, maximum=9)), NUMBERS.outputs)
MIXED = Signature(
    (Field("text", BYTES), Field("vector", Datatype.FP32, shape=(2,)), Field("on", BOOL)),
    NUMBERS.outputs,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any tensor the protocol can carry, without NaN and infinity, which JSON cannot."""
    datatype = draw(st.sampled_from(list(Datatype)))
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    if datatype is BYTES:
        count = math.prod(shape)
        texts = draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))
        values = np.empty(count, dtype=object)
        values[:] = texts
        return Tensor("x", datatype, values.reshape(shape))
    finite: dict[str, Any] = {"allow_nan": False, "allow_infinity": False}
    elements = arrays.from_dtype(datatype.numpy, **finite if datatype.is_float else {})
    return Tensor("x", datatype, draw(arrays.arrays(datatype.numpy, shape, elements=elements)))


def same(found: Tensor, sent: Tensor) -> None:
    assert (found.name, found.datatype) == (sent.name, sent.datatype)
    assert found.values.dtype == sent.values.dtype
    assert found.values.shape == sent.values.shape
    assert found.values.tolist() == sent.values.tolist()


@given(tensors())
def test_raw_bytes_go_round(sent: Tensor) -> None:
    raw = to_raw(sent)
    same(from_raw("x", sent.datatype, sent.values.shape, raw), sent)
    padded = memoryview(b"?" + raw)[1:]  # not aligned, as after a JSON header
    same(from_raw("x", sent.datatype, sent.values.shape, padded), sent)


@given(tensors())
def test_values_go_round_nested_and_flat(sent: Tensor) -> None:
    shape = sent.values.shape
    same(from_values("x", sent.datatype, shape, sent.values.ravel().tolist()), sent)
    if sent.values.size:
        same(from_values("x", sent.datatype, shape, sent.values.tolist()), sent)


def test_raw_bytes_are_little_endian_and_texts_have_their_length_in_front() -> None:
    assert to_raw(Tensor("x", INT64, np.array([1, -1]))) == b"\1" + b"\0" * 7 + b"\xff" * 8
    assert to_raw(Tensor("x", BOOL, np.array([True, False]))) == b"\1\0"
    texts = np.array(["ä", None, ""], dtype=object)
    assert to_raw(Tensor("x", BYTES, texts)) == b"\2\0\0\0\xc3\xa4" + b"\0" * 8


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "words"),
    [
        (FP64, [2], b"\0" * 8, "has 8 bytes, but FP64 of shape [2] are 16"),
        (FP64, [-1], b"\0" * 8, "must be up to 64 sizes from 0 up"),
        (FP64, [2, -5], b"", "must be up to 64 sizes from 0 up"),
        (FP64, [1] * 65, b"\0" * 8, "must be up to 64 sizes from 0 up"),
        (FP64, [2**60 + 2, 2**4], b"\0" * 256, "are 147573952589676413184"),
        (FP64, [2**62, 4], b"", "has 0 bytes"),
        (FP64, [0, 2**63], b"", "which is too large"),
        (FP64, [10**4000, 10**4000], b"", "the shape of 'x' is too large"),
        (FP64, [0, 2**62, 2**62], b"", "which is too large"),
        (BYTES, [2**60], b"", "too few for the 1152921504606846976 texts"),
        (BYTES, [1], b"", "too few for the 1 texts"),
        (BYTES, [0], b"\0" * 4, "has 1 texts, but its shape is for 0"),
        (BYTES, [1], b"\1\0\0\0", "ends after its bytes do"),
        (BYTES, [1], b"\xff\xff\xff\xffa", "ends after its bytes do"),
        (BYTES, [1], b"\1\0\0\0ab", "ends within the length of a text"),
        (BYTES, [1], b"\1\0\0\0\xff", "not UTF-8"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused_before_room_is_made(
    datatype: Datatype, shape: list[int], raw: bytes, words: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput) as refused:
            from_raw("x", datatype, shape, raw)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert words in refused.value.message
    assert refused.value.field == "x"


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "words"),
    [
        (FP64, [2], [1.0], "has 1 values, but shape [2] is for 2"),
        (FP64, [2**40], [1.0], "is for 1099511627776"),
        (FP64, [], [1.0, 2.0], "is for 1"),
        (FP64, [1], 1.0, "must be an array"),
        (FP64, [2, 2], [[1.0], [2.0, 3.0, 4.0]], "ragged"),
        (FP64, [2], [1.0, [2.0]], "ragged"),
        (FP64, [1], ["1"], "not FP64"),
        (FP64, [1], [True], "not FP64"),
        (FP64, [1], [10**400], "out of range"),
        (Datatype.FP32, [1], [1e39], "out of range"),
        (Datatype.FP16, [1], [1e6], "out of range"),
        (Datatype.UINT8, [1], [300], "out of range"),
        (Datatype.UINT8, [1], [300.0], "out of range"),
        (Datatype.UINT8, [1], [-1], "out of range"),
        (INT64, [1], [2**63], "out of range"),
        (INT64, [1], [1.5], "not INT64"),
        (INT64, [1], [True], "not INT64"),
        (BOOL, [1], [1], "not BOOL"),
        (BYTES, [1], [1], "not BYTES"),
        (BYTES, [2], ["a", 1], "not BYTES"),
    ],
)
def test_values_of_another_datatype_or_number_are_refused(
    datatype: Datatype, shape: list[int], values: Any, words: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_values("x", datatype, shape, values)
    assert words in refused.value.message


def test_nesting_is_bounded() -> None:
    values: Any = 1.0
    for depth in range(1, 101):
        values = [values]
        if depth == 50:  # as deep as Triton's own tests go
            assert from_values("x", FP64, [1, 1], values).values.tolist() == [[1.0]]
    with pytest.raises(InvalidInput, match="nested too deeply"):
        from_values("x", FP64, [1, 1], values)


def test_missing_values_and_whole_floats() -> None:
    floats = from_values("x", FP64, [3], [1, None, 2.5]).values
    assert floats.dtype == np.float64
    np.testing.assert_array_equal(floats, [1, math.nan, 2.5])
    assert from_values("x", INT64, [2], [24.0, 3]).values.tolist() == [24, 3]
    assert from_values("x", INT64, [2], [24.0, None]).values.tolist() == [24, None]
    assert from_values("x", BOOL, [2], [None, True]).values.tolist() == [None, True]
    assert from_values("x", BYTES, [2], [None, "a"]).values.tolist() == [None, "a"]


def test_an_unknown_datatype_is_refused_with_those_there_are() -> None:
    assert datatype_of("FP32", "x") is Datatype.FP32
    for told in ("BF16", "fp32", "", "FLOAT"):
        with pytest.raises(InvalidInput, match="must be one of BOOL"):
            datatype_of(told, "x")


def test_a_shape_without_sizes_is_for_one() -> None:
    assert count_of([], "x") == 1
    assert count_of([0, 2**70], "x") == 0


def column(name: str, values: Any, datatype: Datatype = FP64) -> Tensor:
    dtype = object if datatype is BYTES else datatype.numpy
    return Tensor(name, datatype, np.array(values, dtype=dtype))


def test_columns_come_in_any_order_flat_or_with_one_value_a_row() -> None:
    sent = [column("c", [[1.5], [math.nan]]), column("b", [3.0, 4.0]), column("a", [1, 2], INT64)]
    batch = Tensors(NUMBERS).accept(sent, max_rows=2)
    assert [part.dtype for part in batch.columns] == [np.float64, np.int64, np.float64]
    np.testing.assert_array_equal(batch.column("c"), [1.5, math.nan])
    assert batch.column("a").tolist() == [1.0, 2.0]
    assert batch.column("b").tolist() == [3, 4]


@pytest.mark.parametrize("datatype", [FP64, Datatype.FP32, INT64])
@pytest.mark.parametrize("signature", [NUMBERS, DENSE])
def test_models_get_memory_of_their_own(signature: Signature, datatype: Datatype) -> None:
    width = len(signature.inputs)
    matrix = np.arange(2 * width).reshape(2, width).astype(datatype.numpy)
    raw = memoryview(b"?" + to_raw(Tensor("any", datatype, matrix)))[1:]  # not aligned
    sent = from_raw("any", datatype, matrix.shape, raw)
    columns = [Tensor(f.name, datatype, sent.values[:, n]) for n, f in enumerate(signature.inputs)]
    for request in ([sent], columns):
        for column in Tensors(signature).accept(request, max_rows=2).columns:
            assert column.flags.aligned
            assert column.flags.writeable


@pytest.mark.parametrize("signature", [NUMBERS, DENSE])
def test_a_model_of_scalar_numbers_takes_one_matrix(signature: Signature) -> None:
    width = len(signature.inputs)
    matrix = np.arange(2 * width, dtype=np.float64).reshape(2, width)
    batch = Tensors(signature).accept([Tensor("any", FP64, matrix)], max_rows=2)
    assert [part.tolist() for part in batch.columns] == matrix.T.tolist()
    integers = Tensor("any", Datatype.INT32, matrix.astype(np.int32))
    again = Tensors(signature).accept([integers], max_rows=2)
    assert [part.tolist() for part in again.columns] == matrix.T.tolist()
    assert [part.dtype for part in again.columns] == [f.datatype.numpy for f in signature.inputs]


@pytest.mark.parametrize(
    ("matrix", "words", "field", "row"),
    [
        ([[1, 2], [math.nan, 3]], "'a' is nan, but must be a number", "a", 1),
        ([[1, 2], [1, 10]], "'b' is 10, but must be between", "b", 1),
        ([[1, 2], [math.inf, 1]], "'a' is inf, but must be between", "a", 1),
        ([[1, math.inf]], "'b' is inf", "b", 0),
    ],
)
def test_a_matrix_is_judged_like_its_columns(matrix: Any, words: str, field: str, row: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        Tensors(DENSE).accept([Tensor("any", FP64, np.array(matrix))], max_rows=9)
    assert words in refused.value.message
    assert (refused.value.field, refused.value.row) == (field, row)


@given(
    arrays.arrays(
        st.sampled_from([np.float64, np.float32, np.int8]),
        st.tuples(st.integers(1, 3), st.just(2)),
    )
)
def test_a_matrix_and_its_columns_are_accepted_or_refused_alike(matrix: Any) -> None:
    def judged(sent: list[Tensor]) -> Any:
        try:
            batch = Tensors(DENSE).accept(sent, max_rows=9)
        except InvalidInput as error:
            return error.message
        return [repr(part.tolist()) for part in batch.columns], [p.dtype for p in batch.columns]

    datatype = Datatype.of(matrix.dtype)
    columns = [Tensor(name, datatype, matrix[:, at]) for at, name in enumerate("ab")]
    assert judged([Tensor("any", datatype, matrix)]) == judged(columns)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([], "input 'text' is missing; the inputs are text, vector, on"),
        ([column("text", ["a"], BYTES)] * 2, "input 'text' was sent twice"),
        ([column("other", ["a"], BYTES)], "there is no input 'other'"),
        ([Tensor("text", BYTES, np.array("a", dtype=object))], "has no shape"),
        (
            [
                column("text", ["a"], BYTES),
                column("vector", [[1, 2], [3, 4]]),
                column("on", [True], BOOL),
            ],
            "input 'vector' has 2 rows, but another one 1",
        ),
        (
            [column("text", ["a"], BYTES), column("vector", [[1, 2, 3]]), column("on", [1], BOOL)],
            "'vector' has rows of shape (3,), but needs (2,)",
        ),
        (
            [column("text", [1.0]), column("vector", [[1, 2]]), column("on", [True], BOOL)],
            "'text' is 1.0, but must be a string",
        ),
        (
            [column("text", ["a"], BYTES), column("vector", [[1, 2]]), column("on", [1.0])],
            "'on' is 1.0, but must be true or false",
        ),
        (
            [
                column("text", [], BYTES),
                column("vector", np.empty((0, 2))),
                column("on", [], BOOL),
            ],
            "there are no rows",
        ),
    ],
)
def test_tensors_that_are_no_request_are_refused(sent: list[Tensor], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Tensors(MIXED).accept(sent, max_rows=9)
    assert words in refused.value.message


@pytest.mark.parametrize(
    "sent", [[Tensor("x", FP64, np.zeros((3, 2)))], [column("a", [0] * 3)] * 1]
)
def test_too_many_rows_are_refused_before_they_are_looked_at(sent: list[Tensor]) -> None:
    sent = sent if len(sent[0].values.shape) == 2 else [*sent, column("b", [math.inf] * 3)]
    with pytest.raises(TooLarge, match="3 rows in one request, but the limit is 2"):
        Tensors(DENSE).accept(sent, max_rows=2)


def test_outputs_are_given_in_the_order_asked_for_and_each_once() -> None:
    given_by = Tensors(NUMBERS)
    assert given_by.wanted(["label", "prediction"]) == ("label", "prediction")
    assert given_by.wanted([]) == ("prediction", "label")
    with pytest.raises(InvalidInput, match="no output 'x'; the outputs are prediction, label"):
        given_by.wanted(["x"])
    with pytest.raises(InvalidInput, match="output 'label' was asked for twice"):
        given_by.wanted(["label", "label"])


def test_classification_tells_the_greatest_values_of_each_row() -> None:
    values = Tensor("p", FP64, np.array([[0.25, 0.5, 0.25], [1.0, 0.0, math.nan]]))
    assert classified(values, 2, ["x", "y", "z"]).values.tolist() == [
        ["0.5:1:y", "0.25:0:x"],
        ["1.0:0:x", "0.0:1:y"],
    ]
    assert classified(values, 9, None).values.shape == (2, 3)
    whole = Tensor("p", Datatype.UINT8, np.array([3, 200], np.uint8))
    assert classified(whole, 1, ["x", "y"]).values.tolist() == [["3:0"], ["200:0"]]
    with pytest.raises(InvalidInput, match="no greatest values"):
        classified(Tensor("p", BYTES, np.array(["a"], dtype=object)), 1, None)


@pytest.mark.parametrize(
    ("names", "looked_at"),
    [(["text", "text"] * 10**6, 2), (["other"] * 10**6, 1), (["text", "on", "x"] * 10**6, 3)],
)
def test_of_many_inputs_no_more_are_looked_at_than_there_can_be(
    names: list[str], looked_at: int
) -> None:
    asked = iter(names)
    with pytest.raises(InvalidInput, match=r"sent twice|there is no input"):
        Tensors(MIXED).refuse_others(asked, len(names))
    assert sum(1 for _ in asked) == len(names) - looked_at
    Tensors(MIXED).refuse_others(["any name at all"], 1)  # it may be a matrix
