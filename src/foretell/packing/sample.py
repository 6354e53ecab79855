"""A sample is a table of rows as the model gets them, read from CSV or Parquet.

Rules:

1. Whole columns decide a field's datatype; at most 100,000 rows are read of a CSV file.
2. CSV does not say what a number is. A column of whole numbers only is INT64 when 20 rows or
   more say so; fewer are too few to tell a count from a measure that happens to be whole, so
   that it is FP64, which takes both. Parquet says what a number is, and is believed.
3. Text is text: what pandas calls `str`, `string` or `object` is BYTES, missing or not.
4. Columns of one category dtype stay categories, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.described import is_printable
from foretell.core.field import Array, Field, Scalar
from foretell.errors import BadPackage, MissingExtra

MOST_ROWS = 100_000
MOST_CATEGORIES = 100
TELLING_ROWS = 20
Frame = Any
"""A pandas DataFrame."""


def read_sample(path: Path) -> Frame:
    """The DataFrame in a CSV or Parquet file. Raises BadPackage and MissingExtra."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("install foretell[pack] to read samples: pandas is missing") from error
    if not path.exists():
        raise BadPackage(f"there is no sample file {path}")
    if not path.is_file():
        raise BadPackage(f"the sample {path} is not a regular file")
    try:
        if path.suffix in (".parquet", ".pq"):
            frame = pd.read_parquet(path).head(MOST_ROWS)
        else:
            frame = _told_apart(pd.read_csv(path, nrows=MOST_ROWS))
    except (OSError, ValueError, ImportError) as error:
        raise BadPackage(f"the sample {path.name} is unreadable: {error}") from error
    if not len(frame) or not len(frame.columns):
        raise BadPackage(f"the sample {path.name} has no rows")
    frame.columns = [str(name) for name in frame.columns]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise BadPackage(f"the sample {path.name} has two columns called {twice[0]!r}")
    for name in frame.columns:
        check_column(name, f"the sample {path.name}")
    return frame


def check_column(name: str, where: str) -> None:
    """Raise BadPackage when a column of `where` has no name, or an unprintable one."""
    if not name:
        raise BadPackage(f"a column of {where} has no name; give it one")
    if not is_printable(name):
        raise BadPackage(
            f"the column {name!r} of {where} has a control character in its name; rename it"
        )


def _told_apart(frame: Frame) -> Frame:
    """`frame` of a CSV file, whose few whole numbers may as well be measures."""
    if len(frame) >= TELLING_ROWS:
        return frame
    whole = [
        name
        for name in frame.columns
        if frame[name].dtype.kind in "iu" and frame[name].between(-(2**53), 2**53).all()
    ]
    return frame.astype(dict.fromkeys(whole, float))


def field_of(name: str, column: Any) -> Field:
    """The field of a sample's column: its datatype, and the categories of few distinct texts.

    Raises BadPackage for dates and mixtures.
    """
    if hasattr(column, "cat"):
        datatype = Datatype.of(plain_column(column).dtype)
        return Field(name, datatype, categories=tuple(column.cat.categories.tolist()))
    values = plain_column(column)
    if values.dtype.kind == "O":
        return _boxed_field(name, values)
    try:
        return Field(name, Datatype.of(values.dtype))
    except ValueError as error:
        raise BadPackage(
            f"column {name!r} of the sample is {column.dtype}; models take numbers, texts and "
            "booleans: give it as the model gets it"
        ) from error


def _boxed_field(name: str, values: Array) -> Field:
    there = [value for value in values if value is not None]
    if any(type(value) is int for value in there) or _has_long_numbers(there):
        raise BadPackage(
            f"column {name!r} of the sample has a whole number of more than 64 bits, which no "
            "model takes as it is; give it as a floating-point number or as text"
        )
    if all(isinstance(value, str) for value in there):
        distinct = sorted(set(there))
        few = 0 < len(distinct) <= MOST_CATEGORIES and len(distinct) < max(2, len(there))
        return Field(name, Datatype.BYTES, categories=tuple(distinct) if few else None)
    if all(isinstance(value, bool | np.bool_) for value in there):
        return Field(name, Datatype.BOOL)
    kinds = sorted({type(value).__name__ for value in there})
    raise BadPackage(f"column {name!r} of the sample mixes {' and '.join(kinds)}")


def _has_long_numbers(values: list[Any]) -> bool:
    """Whether these are numbers that pandas left as texts, some being too long."""
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values) or not any(len(text) > 18 and text.isdecimal() for text in texts):
        return False
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return False
    return any(not number.is_integer() for number in numbers)


def plain_column(column: Any) -> Array:
    """A pandas column as an array: missing is NaN in numbers, None in texts and booleans."""
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return plain_column(pd.Series(np.asarray(column)))
    kinds = pd.api.types
    missing = column.isna().to_numpy()
    array: Array
    if (isinstance(dtype, np.dtype) and dtype.kind != "O") or hasattr(column, "dt"):
        array = column.to_numpy()
    elif kinds.is_bool_dtype(dtype) and not missing.any():
        array = column.to_numpy(dtype=bool)
    elif kinds.is_integer_dtype(dtype) and not missing.any():
        array = column.to_numpy(dtype=f"{dtype.kind}{dtype.itemsize}")
    elif kinds.is_numeric_dtype(dtype) and not kinds.is_bool_dtype(dtype):
        array = column.to_numpy(dtype=float, na_value=np.nan)
    else:
        array = np.array(column.astype(object), dtype=object)
        array[missing] = None
    return array


def batch_of(frame: Frame, fields: Sequence[Field]) -> Batch:
    """The rows of `frame` as a batch of `fields`; nothing is checked."""
    return Batch.from_columns(tuple(fields), [_column(frame[f.name], f) for f in fields])


def _column(column: Any, field: Field) -> Array:
    if field.shape:
        return np.array([np.asarray(value) for value in column], dtype=field.datatype.numpy)
    values = plain_column(column)
    boxed = field.datatype is Datatype.BOOL and field.nullable
    return values.astype(object if boxed else field.datatype.numpy, copy=False)


def frame_of(rows: Sequence[Sequence[Scalar | None]], fields: Sequence[Field]) -> Frame:
    """Rows of plain values as a DataFrame: the sample for who gave none."""
    import pandas as pd

    return pd.DataFrame(
        {
            field.name: pd.Series(
                [row[place] for row in rows],
                dtype=object if field.shape else field.datatype.numpy,
            )
            for place, field in enumerate(fields)
        }
    )
