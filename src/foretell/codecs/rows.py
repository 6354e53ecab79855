"""Rows are what a Python program holds: dicts, lists, numpy arrays, DataFrames, Arrow tables.

Whoever takes rows in Python (`foretell.load`, the clients) takes all of these, judged by one
signature. DataFrames and tables are read through their own methods; nothing is imported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import Array, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput


def batch_of(signature: Signature, rows: Any) -> Batch:
    """`rows`, in any of these forms, as accepted inputs.

    A dict is one row; a batch of accepted inputs is taken as it is; a numpy array has shape (n, k); columns of tables are found by name.
    Raises InvalidInput with field and row.
    """
    if isinstance(rows, Batch) and rows.fields == signature.inputs:
        return rows
    library = type(rows).__module__.partition(".")[0]
    if library == "pandas":
        return _from_columns(signature, {str(name): _series(rows[name]) for name in rows.columns})
    if library == "pyarrow":
        columns = zip(rows.column_names, rows.columns, strict=True)
        return _from_columns(signature, {n: c.to_numpy(zero_copy_only=False) for n, c in columns})
    if isinstance(rows, np.ndarray):
        if rows.ndim != 2 or rows.shape[1] != len(signature.inputs):
            raise InvalidInput(
                f"the array has shape {rows.shape}, but must be (n, {len(signature.inputs)})"
            )
        return _from_columns(signature, dict(zip(signature.input_names, rows.T, strict=True)))
    if isinstance(rows, Mapping):
        rows = [rows]
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InvalidInput(f"rows are a {type(rows).__name__}, but must be a list or a table")
    accepted = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping | Sequence | np.ndarray) or isinstance(row, str):
            raise InvalidInput(
                f"row {number}: is a {type(row).__name__}, but must be a dict or a list", row=number
            )
        try:
            accepted.append(signature.accept_row(row))
        except InvalidInput as error:
            raise error.at_row(number) from None
    if not accepted:
        raise InvalidInput("there are no rows; give at least one")
    return Batch.from_rows(signature.inputs, accepted)


def _series(series: Any) -> Array:
    """A pandas column as numpy; whatever pandas means by missing is None in object columns."""
    plain: Array = series.to_numpy()
    if plain.dtype.kind in "iufb":
        return plain
    boxed: Array = series.astype(object).where(series.notna(), None).to_numpy()
    return boxed


def _from_columns(signature: Signature, columns: Mapping[str, Array]) -> Batch:
    for name in columns:
        if name not in signature.input_names:
            raise InvalidInput(f"there is no input {name!r}; leave the column out", field=name)
    accepted = []
    for field in signature.inputs:
        if field.name not in columns:
            raise InvalidInput(f"column {field.name!r} is missing", field=field.name)
        accepted.append(_accepted(field, columns[field.name]))
    if len(accepted[0]) == 0:
        raise InvalidInput("there are no rows; give at least one")
    return Batch.from_columns(signature.inputs, accepted)


def _accepted(field: Field, column: Array) -> Array:
    if not field.shape or column.ndim > 1 or len(column) == 0:
        return field.accept_column(column)
    values = []  # a cell of a table holds a whole vector
    for number, value in enumerate(column):
        try:
            values.append(field.accept(value))
        except InvalidInput as error:
            raise error.at_row(number) from None
    return np.array(values)
