"""Batches: the same rows, however they are held, joined and cut."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.core.batch import Batch, Chosen
from foretell.core.datatype import Datatype
from foretell.core.field import Field

MIXED = (
    Field("n", Datatype.FP64, nullable=True),
    Field("i", Datatype.INT32),
    Field("s", Datatype.BYTES, nullable=True),
    Field("b", Datatype.BOOL),
)
DENSE = (Field("a", Datatype.FP32), Field("b", Datatype.FP32))
VECTOR = (Field("v", Datatype.FP64, shape=(2,)), Field("k", Datatype.BYTES))

MIXED_ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(allow_nan=False)),
        st.integers(-(2**31), 2**31 - 1),
        st.one_of(st.none(), st.text(max_size=4)),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def plain(batch: Batch) -> list[list[Any]]:
    """Rows as comparable data: NaN and None are both missing."""
    return [
        [None if isinstance(v, float) and math.isnan(v) else v for v in row] for row in batch.rows
    ]


@given(MIXED_ROWS)
def test_rows_become_columns_of_the_fields_dtypes_and_come_back(rows: list[Any]) -> None:
    batch = Batch.from_rows(MIXED, rows)
    dtypes = [column.dtype for column in batch.columns]
    assert dtypes == [np.float64, np.int32, np.object_, np.bool_]
    back = Batch.from_columns(MIXED, batch.columns)
    assert plain(back) == [list(row) for row in rows]


def test_a_dense_batch_is_one_matrix_and_its_columns_are_views() -> None:
    batch = Batch.from_rows(DENSE, [(1.0, 2.0), (3.0, 4.0)])
    assert batch.matrix.dtype == np.float32
    assert batch.matrix.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert np.shares_memory(batch.columns[1], batch.matrix)


def test_a_mixed_batch_has_no_matrix() -> None:
    with pytest.raises(ValueError, match="form no matrix"):
        _ = Batch.from_rows(MIXED, [(1.0, 1, "a", True)]).matrix


def test_missing_numbers_in_rows_become_nan_in_the_matrix() -> None:
    fields = (Field("a", Datatype.FP64, nullable=True), Field("b", Datatype.FP64))
    assert math.isnan(Batch.from_rows(fields, [(None, 1.0)]).matrix[0, 0])


def test_shaped_fields_are_stacked() -> None:
    rows = [(np.array([1.0, 2.0]), "a"), ([3.0, 4.0], "b")]
    batch = Batch.from_rows(VECTOR, rows)
    assert batch.column("v").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert batch.column("k").tolist() == ["a", "b"]
    with pytest.raises(KeyError):
        batch.column("w")


def test_rows_of_several_free_sizes_are_stacked() -> None:
    field = Field("v", Datatype.FP64, shape=(-1, -1))
    rows = [([[1.0, 2.0]],), ([[3.0, 4.0]],)]
    assert Batch.from_rows((field,), rows).column("v").tolist() == [[[1, 2]], [[3, 4]]]
    assert Batch.from_rows((field,), rows[:1]).column("v").tolist() == [[[1, 2]]]


def as_rows(fields: tuple[Field, ...], rows: list[Any]) -> Batch:
    return Batch.from_rows(fields, rows)


def as_columns(fields: tuple[Field, ...], rows: list[Any]) -> Batch:
    return Batch.from_columns(fields, Batch.from_rows(fields, rows).columns)


@given(st.lists(st.tuples(MIXED_ROWS, st.sampled_from([as_rows, as_columns])), min_size=1))
def test_what_is_joined_can_be_split_again(parts: list[Any]) -> None:
    batches = [make(MIXED, rows) for rows, make in parts]
    whole = Batch.concat(batches)
    assert whole.n_rows == sum(batch.n_rows for batch in batches)
    pieces = list(whole.split([batch.n_rows for batch in batches]))
    assert [plain(piece) for piece in pieces] == [plain(batch) for batch in batches]


def test_matrices_are_joined_and_cut_as_matrices() -> None:
    one = Batch.from_matrix(DENSE, np.ones((2, 2), dtype=np.float32))
    whole = Batch.concat([one, Batch.from_rows(DENSE, [(5.0, 6.0)])])
    assert whole.matrix.tolist() == [[1, 1], [1, 1], [5, 6]]
    cut = whole.slice(1, 9)
    assert cut.n_rows == 2
    assert np.shares_memory(cut.matrix, whole.matrix)


def test_a_split_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1, not to 2"):
        list(Batch.from_rows(DENSE, [(1, 2), (3, 4)]).split([1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Batch.from_columns(DENSE, [np.zeros(2)]),
        lambda: Batch.from_columns(DENSE, [np.zeros(2), np.zeros(3)]),
        lambda: Batch.from_matrix(DENSE, np.zeros((2, 3))),
    ],
)
def test_parts_that_do_not_fit_the_fields_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"columns|rows|matrix"):
        make()


def test_a_column_of_choices_is_that_of_its_texts() -> None:
    choices = np.array(["a", "ß", None], dtype=object)
    numbers = np.arange(4.0)
    fields = (MIXED[2], Field("x", Datatype.FP64))
    batch = Batch.from_columns(fields, [Chosen(choices, np.array([1, 2, 0, 1])), numbers])
    rows = [("ß", 0.0), (None, 1.0), ("a", 2.0), ("ß", 3.0)]
    assert len(batch) == 4
    assert batch.rows == rows
    assert batch.slice(1, 3).rows == rows[1:3]
    assert batch.columns[0].tolist() == [text for text, _ in rows]
    fresh = Batch.from_columns(fields, batch.chosen)
    assert Batch.concat([fresh.slice(0, 1), fresh.slice(1, 4)]).rows == rows
    assert [part.rows for part in fresh.split([3, 1])] == [rows[:3], rows[3:]]
    with pytest.raises(ValueError, match="has 3 rows, not 4"):
        Batch.from_columns(fields, [batch.chosen[0], np.arange(3.0)])
