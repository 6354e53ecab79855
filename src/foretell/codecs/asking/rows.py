"""Rows are what a Python program holds: dicts, lists, numpy arrays, DataFrames, Arrow tables.

Whoever takes rows in Python (`foretell.load`, the clients) takes all of these, judged by one
signature. DataFrames are read through their own methods; pandas is not imported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foretell.codecs.tables import arrow_tables, columns
from foretell.core.batch import Batch, refuse_ragged
from foretell.core.field import Array, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput


def batch_of(signature: Signature, rows: Any) -> Batch:
    """`rows`, in any of these forms, as accepted inputs.

    A dict is one row, a numpy array has shape (n, k), columns of tables are found by name, and
    a batch of accepted inputs is taken as it is. Raises InvalidInput with field and row.
    """
    if isinstance(rows, Batch) and rows.fields == signature.inputs:
        return rows
    library = type(rows).__module__.partition(".")[0]
    if library == "pandas" and hasattr(rows, "columns"):
        columns.check_names(signature, list(map(str, rows.columns)))
        named = {str(name): rows[name] for name in rows.columns}
        cells = {field.name: _cells(field, named[field.name]) for field in signature.inputs}
        return columns.accepted(signature, cells)
    if library == "pyarrow" and hasattr(rows, "schema"):
        if not hasattr(rows, "combine_chunks"):  # a record batch
            rows = arrow_tables.pyarrow().Table.from_batches([rows])
        return arrow_tables.batch_of(signature, rows)
    if isinstance(rows, np.ndarray):
        if isinstance(rows, np.ma.MaskedArray):
            rows = _unmasked(rows)
        if rows.ndim != 2 or rows.shape[1] != len(signature.inputs):
            raise InvalidInput(
                f"the array has shape {rows.shape}, but must be (n, {len(signature.inputs)})"
            )
        return columns.accepted(signature, dict(zip(signature.input_names, rows.T, strict=True)))
    if isinstance(rows, Mapping):
        rows = [rows]
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InvalidInput(f"rows are a {type(rows).__name__}, but must be a list or a table")
    accepted = []
    for number, row in enumerate(rows):
        if isinstance(row, np.ndarray):
            row = row.tolist()  # noqa: PLW2901 - the same row
        if not isinstance(row, Mapping | Sequence) or isinstance(row, str):
            raise InvalidInput(
                f"row {number}: is a {type(row).__name__}, but must be a dict or a list", row=number
            )
        try:
            accepted.append(signature.accept_row(row))
        except InvalidInput as error:
            raise error.at_row(number) from None
    if not accepted:
        raise InvalidInput("there are no rows; give at least one")
    return Batch.from_accepted(signature.inputs, accepted)


def _unmasked(rows: Any) -> Array:
    """A masked array as a plain one: what is masked is missing, not what the mask hides."""
    if not np.ma.is_masked(rows):
        return np.asarray(rows.data)
    boxed = rows.data.astype(object)
    boxed[np.ma.getmaskarray(rows)] = None
    return np.asarray(boxed)


def _cells(field: Field, series: Any) -> Array:
    """A pandas column; where each cell holds a vector, with a row for each."""
    plain = _series(series)
    if not field.shape or len(plain) == 0:
        return plain
    values = []
    for number, value in enumerate(plain):
        try:
            values.append(field.accept(value))
        except InvalidInput as error:
            raise error.at_row(number) from None
    refuse_ragged((field,), [(value,) for value in values])
    return np.array(values)


def _series(series: Any) -> Array:
    """A pandas column as numpy; whatever pandas means by missing is None in object columns."""
    plain: Array = series.to_numpy()
    if plain.dtype.kind in "iufb":
        return plain
    boxed: Array = series.astype(object).where(series.notna(), None).to_numpy()
    return boxed
