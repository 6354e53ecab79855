"""Typed columns are made of values without types: each is judged by its field, once.

What a field refuses makes its row a bad one; the others are read on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.errors import InvalidInput
from foretell.transports.batch.reading.pieces import BadRow, Piece, chosen

_STAND_IN = {Datatype.BYTES: "", Datatype.BOOL: False}


def type_of(field: Field, *, flat: bool = False) -> pa.DataType:
    """The type in which values of `field` are read; with `flat` that of its elements."""
    if field.datatype is Datatype.BYTES:
        made = pa.string()
    elif field.datatype is Datatype.BOOL:
        made = pa.bool_()
    elif field.datatype.is_float:
        made = pa.float64()  # the field itself rounds to its own
    else:
        made = pa.uint64() if field.datatype is Datatype.UINT64 else pa.int64()
    for _ in () if flat else field.shape:
        made = pa.list_(made)
    return made


class Refusals:
    """The bad rows among those with `numbers`; `raw_of` tells what there is of one of them."""

    def __init__(self, numbers: Array, raw_of: Callable[[int], object]) -> None:
        self._numbers = numbers
        self._raw_of = raw_of
        self._bad: dict[int, BadRow] = {}

    def add(self, place: int, column: str | None, reason: str) -> None:
        """The row at `place` is bad; what was said of it before stands."""
        if place not in self._bad:
            self._bad[place] = BadRow(int(self._numbers[place]), column, reason)

    def judged(self, field: Field, values: Sequence[object]) -> pa.Array:
        """`values` as a column of what `field` accepts; of refused ones something stands there."""
        read: list[object] = []
        for place, value in enumerate(values):
            try:
                accepted = field.accept(value)
            except InvalidInput as error:
                self.add(place, field.name, error.message)
                accepted = self._stand_in(field)
            read.append(accepted.tolist() if isinstance(accepted, np.ndarray) else accepted)
        return pa.array(read, type_of(field))

    @staticmethod
    def _stand_in(field: Field) -> object:
        value: object = _STAND_IN.get(field.datatype, 0)
        for size in reversed(field.shape):
            value = [value] * max(size, 1)
        return value

    def taken_out_of(self, piece: Piece) -> Piece:
        """`piece`, whose columns have a row for each number, without the bad rows."""
        if not self._bad:
            return piece
        keep = np.ones(len(self._numbers), bool)
        keep[list(self._bad)] = False
        own = [one._replace(raw=self._raw_of(place)) for place, one in self._bad.items()]
        bad = sorted((*piece.bad, *own), key=lambda one: one.row)
        return Piece(
            piece.start,
            piece.n_rows,
            chosen(piece.inputs, keep),
            chosen(piece.carried, keep),
            tuple(bad),
        )


def fixed_bytes(told: pa.DataType) -> int | None:
    """The bytes of a value of this type; None where each has its own, as texts and lists have."""
    try:
        return max(1, int(told.bit_width) // 8)
    except ValueError:
        return None


def text_of(cells: pa.Array, name: str, refusals: Refusals) -> pa.Array:
    """Bytes as text; what is not UTF-8 is refused."""
    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        read = []
        for place, cell in enumerate(cells.to_pylist()):
            try:
                read.append(None if cell is None else cell.decode())
            except UnicodeDecodeError as error:
                refusals.add(place, name, f"{name!r} is not UTF-8: {error.reason}")
                read.append(cell.decode(errors="replace"))
        return pa.array(read, pa.string())


def objects_of(column: pa.Array) -> list[Any]:
    """A column's values as Python has them; a time beyond its years is Arrow's text of it."""
    try:
        made: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        if not pa.types.is_temporal(column.type):
            raise
        made = [_object_of(value) for value in column]
    return made


def row_of(batch: pa.RecordBatch) -> dict[str, Any]:
    """The values of the only row of `batch`, by name."""
    columns = zip(batch.schema.names, batch.columns, strict=True)
    return {name: objects_of(column)[0] for name, column in columns}


def _object_of(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return value.cast(pa.string()).as_py()
