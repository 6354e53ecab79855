"""A table is what an estimator takes: an array, a DataFrame, or a column of texts.

Rules:

1. `TableForm` says which, and is recorded in the package, because it is part of the answer:
   an estimator fitted on names looks at names, an encoder tells NaN from None. `bare` is an
   array laid out like a DataFrame, for estimators whose names were taken away: the packer
   proved that they do not need them, and pandas costs more than most models.
2. Columns that are numbers only become one array of their common dtype, which is what
   estimators make of them anyway; everything else is built column by column.
3. A DataFrame lies column by column in memory, as pandas' own do, an array row by row: the
   last bit of a sum over many rows depends on it.
4. Text columns have dtype object. `missing` says what stands for a missing text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.errors import BadPackage, MissingExtra

Table = Any
"""An ndarray, a pandas DataFrame, or whatever one step hands to the next."""
Tabulate = Callable[[Batch], Table]


@dataclass(frozen=True, slots=True)
class TableForm:
    """How a batch becomes a table: its kind, the missing marker, the columns of categories."""

    kind: Literal["array", "bare", "frame", "texts"] = "array"
    missing: Literal["nan", "none"] = "nan"
    categorical: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """This form as a step's options hold it."""
        return {
            "table": self.kind,
            "missing": self.missing,
            "categorical": list(self.categorical),
        }

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> TableForm:
        """The form that `describe` told of. Raises BadPackage."""
        kind, missing = options.get("table", "array"), options.get("missing", "nan")
        if kind not in ("array", "bare", "frame", "texts") or missing not in ("nan", "none"):
            raise BadPackage(f"a step's options name an unknown table {kind!r} or {missing!r}")
        categorical = options.get("categorical", ())
        if not isinstance(categorical, list | tuple) or not all(
            isinstance(name, str) for name in categorical
        ):
            raise BadPackage(f"a step's options name no list of columns: {categorical!r}")
        return cls(kind, missing, tuple(categorical))

    @property
    def marker(self) -> float | None:
        """What stands for a missing text."""
        return None if self.missing == "none" else np.nan


def tabulator(inputs: tuple[Field, ...], form: TableForm) -> Tabulate:
    """The function from batches of `inputs` to tables of `form`."""
    if form.kind == "texts":
        return _texts
    if form.kind == "array":
        return _array_of(inputs, form)
    if form.kind == "bare":
        dtype = common_dtype(inputs)
        if dtype is None:
            raise BadPackage("a step asks for bare numbers, but its inputs are not all numbers")
        numbers = _numbers(inputs, dtype)
        return lambda batch: np.asfortranarray(numbers(batch))
    return _frame_of(inputs, form)


def _texts(batch: Batch) -> Table:
    return batch.columns[0]


def common_dtype(inputs: tuple[Field, ...]) -> np.dtype[Any] | None:
    """The dtype of all `inputs` in one array, when all are scalar numbers or booleans."""
    for field in inputs:
        boxed = field.datatype is Datatype.BOOL and field.nullable
        if field.shape or field.datatype is Datatype.BYTES or boxed:
            return None
    return np.result_type(*(field.datatype.numpy for field in inputs))


def _array_of(inputs: tuple[Field, ...], form: TableForm) -> Tabulate:
    if len(inputs) == 1 and inputs[0].shape:
        return _texts  # the one column is the array already
    dtype = common_dtype(inputs)
    if dtype is not None:
        return _numbers(inputs, dtype)
    marker = form.marker

    def boxed(batch: Batch) -> Table:
        table = np.empty((batch.n_rows, len(inputs)), dtype=object)
        for place, (field, column) in enumerate(zip(inputs, batch.columns, strict=True)):
            table[:, place] = column if field.datatype.is_numeric else _marked(column, marker)
        return table

    return boxed


def _numbers(inputs: tuple[Field, ...], dtype: np.dtype[Any]) -> Tabulate:
    datatype = inputs[0].datatype
    if datatype.is_numeric and all(field.datatype is datatype for field in inputs):
        return _matrix

    def stacked(batch: Batch) -> Table:
        table = np.empty((batch.n_rows, len(inputs)), dtype=dtype)
        for place, column in enumerate(batch.columns):
            table[:, place] = column
        return table

    return stacked


def _matrix(batch: Batch) -> Table:
    return batch.matrix


def _frame_of(inputs: tuple[Field, ...], form: TableForm) -> Tabulate:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("install foretell[sklearn]: pandas is missing") from error
    names = pd.Index([field.name for field in inputs], dtype=object)
    dtype = common_dtype(inputs)
    booleans = any(field.datatype is Datatype.BOOL for field in inputs)
    if dtype is not None and not booleans and not form.categorical:
        numbers = _numbers(inputs, dtype)

        def framed(batch: Batch) -> Table:
            table = np.asfortranarray(numbers(batch))
            return pd.DataFrame(table, columns=names, copy=False)

        return framed
    categories = {
        field.name: pd.CategoricalDtype(list(field.categories or ()))
        for field in inputs
        if field.name in form.categorical
    }
    marker = form.marker

    def columnwise(batch: Batch) -> Table:
        index = pd.RangeIndex(batch.n_rows)
        table: dict[str, Any] = {}
        for field, column in zip(inputs, batch.columns, strict=True):
            if field.name in categories:
                table[field.name] = pd.Categorical(column, dtype=categories[field.name])
            elif field.datatype is Datatype.BYTES:
                texts = _marked(column, marker)
                table[field.name] = pd.Series(texts, index=index, dtype=object, copy=False)
            else:
                table[field.name] = column
        return pd.DataFrame(table, index=index, copy=False)

    return columnwise


def _marked(column: Array, marker: float | None) -> Array:
    """`column` with None replaced by `marker`."""
    if marker is None:
        return column
    missing = [value is None for value in column]
    return np.where(missing, marker, column) if any(missing) else column
