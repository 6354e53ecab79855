"""A value is one row of answers as bytes, from which exactly what the model gave comes back.

Rules:

1. A row is MessagePack of its plain values, which keeps 1 and 1.0 apart and all bits of a number,
   behind the dtypes of its columns; these are empty where the fields say them.
2. What does not read as the signature's outputs is none: a reader never guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from foretell.core.batch import Batch, Row
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Value(NamedTuple):
    """One row of answers; `dtypes` are those of its columns, joined by commas, or empty."""

    dtypes: str
    row: Row


class Values:
    """Writes and reads the rows of these output `fields`."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        row = tuple.__class_getitem__(tuple(map(_plain_type, fields)))
        # Made of values, which no type checker can read as a type.
        kind: Any = tuple.__class_getitem__((str, row))
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._free = [place for place, field in enumerate(fields) if -1 in field.shape]
        self._usual = tuple(field.datatype.numpy for field in fields)

    def dtypes_of(self, outputs: Batch) -> str:
        """What a value says of the dtypes of these answers."""
        dtypes = outputs.dtypes
        return "" if dtypes is None or dtypes == self._usual else _told(dtypes)

    def write(self, value: Value) -> bytes | None:
        """The bytes of a row; None when they can't be told, as text that is no Unicode."""
        try:
            return self._encode(value)
        except (TypeError, ValueError, OverflowError):
            return None

    def read(self, value: bytes) -> Value | None:
        """The row in `value`; None when it is none of these fields."""
        try:
            dtypes, row = self._decode(value)
            if dtypes and len(dtypes.split(",")) != len(self.fields):
                return None
        except _UNREADABLE:
            return None
        return Value(dtypes, row)

    def one(self, value: bytes) -> Batch | None:
        """The answer of the one row in `value`; None when it is none of these fields."""
        try:
            dtypes, row = self._decode(value)
        except _UNREADABLE:
            return None
        if not dtypes:
            return Batch(self.fields, 1, (row,))
        read = self.read(value)
        return None if read is None else self.joined((read,))

    def joined(self, values: Sequence[Value]) -> Batch:
        """The answers in `values`, one row after the other.

        Raises ValueError when they do not fit together.
        """
        if len(values) == 1 and not values[0].dtypes:
            return Batch(self.fields, 1, (values[0].row,))
        rows = [value.row for value in values]
        for place in self._free if len(rows) > 1 else ():
            if len({np.shape(row[place]) for row in rows}) > 1:
                raise ValueError(f"{self.fields[place].name!r} has rows of different shapes")
        dtypes = {value.dtypes for value in values}
        if len(dtypes) > 1 or "" in dtypes:  # as they are: no row's numbers are made another's kind
            return Batch.from_rows(self.fields, rows)
        names = dtypes.pop().split(",")
        columns = [
            _column(field, np.dtype(name), list(cells))
            for field, name, cells in zip(self.fields, names, zip(*rows, strict=True), strict=True)
        ]
        return Batch.from_columns(self.fields, columns)


def _column(field: Field, dtype: np.dtype[Any], cells: list[Any]) -> Array:
    if dtype.kind != "O":
        return np.array(cells, dtype=dtype)
    if field.shape:
        return np.array([np.asarray(cell, dtype=object) for cell in cells], dtype=object)
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def _told(dtypes: Any) -> str:
    return ",".join(dtype.str for dtype in dtypes)


def _plain_type(field: Field) -> Any:
    """What a row may have for a field: as lenient as what a model is allowed to answer."""
    kind: Any = int | float
    if field.datatype is Datatype.BYTES:
        kind = str | None
    elif field.datatype is Datatype.BOOL:
        kind = bool | None
    elif field.datatype.is_integer:
        kind = int
    elif field.nullable:
        kind = int | float | None
    for _ in field.shape:
        kind = list.__class_getitem__(kind)
    return kind
