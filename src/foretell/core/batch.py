"""A batch is a number of rows under named fields: rows in, rows out.

Rules:

1. A batch is made of rows (plain tuples), of columns, or of one matrix, and becomes the
   others only when asked: a request of one row costs no numpy until its batch runs.
2. Its fields say names and dtypes; every column has the field's dtype and `n_rows` entries,
   a shaped field's column is (n_rows, *shape).
3. Values were accepted by the signature before. Missing is NaN in floating-point columns,
   None in (object) columns of BYTES and nullable BOOL; in rows None stands for either.
4. A batch is never changed; slices of arrays are views.
5. A column of texts may come as its different texts and the choice of each row (`Chosen`): who
   works on the texts alone asks for `chosen`, and nobody makes a text for each row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import Any

import msgspec
import numpy as np

from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field, dense_datatype
from foretell.errors import InvalidInput

Row = tuple[Any, ...]

_NARROW = 64
"""Up to so many numbers a field are cheaper as Python values than as an array for each row."""


FEW_ROWS = 32
"""Up to so many rows are cheaper taken as rows than column by column."""


class Chosen(msgspec.Struct, eq=False, gc=False):
    """A column of texts: row n has the text `choices[places[n]]`, None where it is missing."""

    choices: Array
    places: Array

    @property
    def values(self) -> Array:
        """The text of each row."""
        chosen: Array = self.choices[self.places]
        return chosen

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.choices.dtype

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> Chosen:
        return Chosen(self.choices, self.places[rows])


class Batch(msgspec.Struct, eq=False, gc=False):
    """`n_rows` rows of `fields`.

    Two are made for every request of one row, as `Batch(fields, 1, (row,))`.
    """

    fields: tuple[Field, ...]
    n_rows: int
    _rows: Sequence[Row] | None = None
    _columns: tuple[Array, ...] | None = None
    _matrix: Array | None = None
    _chosen: tuple[Array | Chosen, ...] | None = None

    @classmethod
    def from_rows(cls, fields: tuple[Field, ...], rows: Sequence[Row]) -> Batch:
        """A batch of tuples in the order of `fields`; nothing is converted yet."""
        return cls(fields, len(rows), rows)

    @classmethod
    def from_accepted(cls, fields: tuple[Field, ...], rows: Sequence[Row]) -> Batch:
        """A batch of rows that were accepted one by one, and must be alike to become columns.

        Raises InvalidInput with field and row where a free size is not that of the first row.
        """
        refuse_ragged(fields, rows)
        return cls(fields, len(rows), rows)

    @classmethod
    def from_values(
        cls, fields: tuple[Field, ...], n_rows: int, values: Iterable[Iterable[Any]]
    ) -> Batch:
        """A batch of columns, made of `n_rows` accepted values for each field."""
        return cls(fields, n_rows, None, _columns(fields, n_rows, values))

    @classmethod
    def from_columns(cls, fields: tuple[Field, ...], columns: Sequence[Array | Chosen]) -> Batch:
        """A batch of one column a field. Raises ValueError when numbers or lengths differ."""
        if len(columns) != len(fields):
            raise ValueError(f"{len(columns)} columns for {len(fields)} fields")
        n_rows = len(columns[0])
        for known, column in zip(fields, columns, strict=True):
            if len(column) != n_rows:
                raise ValueError(f"column {known.name!r} has {len(column)} rows, not {n_rows}")
        plain = tuple(column for column in columns if not isinstance(column, Chosen))
        if len(plain) == len(columns):
            return cls(fields, n_rows, None, plain)
        return cls(fields, n_rows, None, None, None, tuple(columns))

    @classmethod
    def from_matrix(cls, fields: tuple[Field, ...], matrix: Array) -> Batch:
        """A batch of one (n, k) array over k scalar fields of its dtype. Raises ValueError."""
        if matrix.ndim != 2 or matrix.shape[1] != len(fields):
            raise ValueError(f"a matrix of shape {matrix.shape} for {len(fields)} fields")
        return cls(fields, len(matrix), None, None, matrix)

    @classmethod
    def concat(cls, batches: Sequence[Batch]) -> Batch:
        """All rows of `batches` (of the same fields), in order."""
        if len(batches) == 1:
            return batches[0]
        fields = batches[0].fields
        rows: list[Row] = []
        for batch in batches:
            if batch._rows is None:
                break
            rows += batch._rows
        else:
            return cls(fields, len(rows), rows)
        n_rows = sum(batch.n_rows for batch in batches)
        if dense_datatype(fields) is not None:
            matrix = np.concatenate([batch.matrix for batch in batches])
            return cls(fields, n_rows, None, None, matrix)
        parts = zip(*(batch.chosen for batch in batches), strict=True)
        return cls.from_columns(fields, [joined(part) for part in parts])

    @property
    def columns(self) -> tuple[Array, ...]:
        """One array a field, in order."""
        columns = self._columns
        if columns is None:
            if self._matrix is not None:
                columns = tuple(self._matrix.T)
            elif self._chosen is not None:
                columns = tuple(column_values(column) for column in self._chosen)
            else:
                values = zip(*self.rows, strict=True) if self.n_rows else ((),) * len(self.fields)
                columns = _columns(self.fields, self.n_rows, values)
            self._columns = columns
        return columns

    @property
    def chosen(self) -> tuple[Array | Chosen, ...]:
        """The columns, those of texts as their choices where they came so."""
        return self.columns if self._chosen is None else self._chosen

    @property
    def matrix(self) -> Array:
        """The (n_rows, k) array of a dense batch. Raises ValueError when it is not dense."""
        if self._matrix is None:
            datatype = dense_datatype(self.fields)
            if datatype is None:
                raise ValueError("columns of different datatypes form no matrix")
            if self._rows is not None:
                shape = (self.n_rows, len(self.fields))
                self._matrix = flattened(self._rows, datatype.numpy).reshape(shape)
            else:
                self._matrix = np.column_stack(self.columns)
        return self._matrix

    @property
    def rows(self) -> Sequence[Row]:
        """The rows as tuples of plain Python values; a shaped field's value is nested lists."""
        if self._rows is None:
            self._rows = self.plain_rows()
        return self._rows

    def plain_rows(self) -> Sequence[Row]:
        """The same, without becoming a batch of rows."""
        if self._rows is not None:
            return self._rows
        if self._matrix is not None:
            return [tuple(row) for row in self._matrix.tolist()]
        return list(zip(*(column.tolist() for column in self.columns), strict=True))

    def column(self, name: str) -> Array:
        """The column of the field called `name`. Raises KeyError."""
        for known, column in zip(self.fields, self.columns, strict=True):
            if known.name == name:
                return column
        raise KeyError(name)

    def slice(self, start: int, stop: int) -> Batch:
        """Rows `start` to `stop`, in every form this batch has taken; arrays are views."""
        n_rows = max(0, min(stop, self.n_rows) - start)
        return Batch(
            self.fields,
            n_rows,
            None if self._rows is None else self._rows[start:stop],
            None
            if self._columns is None
            else tuple(column[start:stop] for column in self._columns),
            None if self._matrix is None else self._matrix[start:stop],
            None if self._chosen is None else tuple(column[start:stop] for column in self._chosen),
        )

    def take(self, places: Sequence[int]) -> Batch:
        """The rows at `places`, in that order; arrays are copies."""
        at = list(places)
        return Batch(
            self.fields,
            len(at),
            None if self._rows is None else [self._rows[place] for place in at],
            None if self._columns is None else tuple(column[at] for column in self._columns),
            None if self._matrix is None else self._matrix[at],
            None if self._chosen is None else tuple(column[at] for column in self._chosen),
        )

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...] | None:
        """Those of the columns as they came; None of rows, whose columns get their fields'."""
        if self._matrix is not None:
            return (self._matrix.dtype,) * len(self.fields)
        if self._columns is not None:
            return tuple(column.dtype for column in self._columns)
        return None if self._chosen is None else tuple(part.dtype for part in self._chosen)

    def split(self, sizes: Sequence[int]) -> list[Batch]:
        """Consecutive batches of `sizes` rows. Raises ValueError when they don't add up."""
        if sum(sizes) != self.n_rows:
            raise ValueError(f"sizes add up to {sum(sizes)}, not to {self.n_rows} rows")
        if max(sizes, default=0) == 1 and _are_narrow(self.fields):
            # Whoever brought a row wants one back: numpy is asked once, not for every row.
            fields = self.fields
            return [Batch(fields, 1, (row,)) for row in self.rows]
        stops = accumulate(sizes)
        return [self.slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        return f"Batch({self.n_rows} rows of {', '.join(f.name for f in self.fields)})"


def column_values(column: Array | Chosen) -> Array:
    """A column's values."""
    return column.values if isinstance(column, Chosen) else column


def joined(parts: Sequence[Array | Chosen]) -> Array | Chosen:
    """One column after the other; of choices among the same texts, choices among these."""
    first = parts[0]
    if isinstance(first, Chosen):
        same = [
            part.places
            for part in parts
            if isinstance(part, Chosen) and part.choices is first.choices
        ]
        if len(same) == len(parts):
            return Chosen(first.choices, np.concatenate(same))
    return np.concatenate([column_values(part) for part in parts])


def refuse_ragged(fields: tuple[Field, ...], rows: Sequence[Row]) -> None:
    """Raise InvalidInput for the first row whose arrays have another shape than the first's."""
    for place, known in enumerate(fields):
        if -1 not in known.shape:
            continue
        first = rows[0][place].shape if rows else ()
        for number, row in enumerate(rows):
            shape = row[place].shape
            if shape != first:
                sizes, wanted = (" x ".join(map(str, told)) for told in (shape, first))
                raise InvalidInput(
                    f"'{known.name}' is an array of {sizes}, but must be one of {wanted} as in the "
                    "first row; send rows of other sizes apart",
                    field=known.name,
                ).at_row(number)


def _are_narrow(fields: tuple[Field, ...]) -> bool:
    return all(0 <= math.prod(field.shape) <= _NARROW for field in fields)


def flattened(rows: Sequence[Sequence[Any]], dtype: np.dtype[Any]) -> Array:
    """The numbers of all rows, one after the other; None is NaN."""
    try:
        # Twice as quick as numpy's own reading of nested sequences, which also knows None.
        return np.fromiter(chain.from_iterable(rows), dtype)
    except TypeError:
        return np.array(rows, dtype=dtype).ravel()


def _columns(
    fields: tuple[Field, ...], n_rows: int, values: Iterable[Iterable[Any]]
) -> tuple[Array, ...]:
    """One array a field, of its accepted values."""
    return tuple(_column(known, n_rows, part) for known, part in zip(fields, values, strict=True))


def _column(known: Field, n_rows: int, values: Iterable[Any]) -> Array:
    """Accepted values as one array: object where None may stand in it."""
    boxed = known.datatype is Datatype.BYTES or (known.datatype is Datatype.BOOL and known.nullable)
    if not boxed and not known.shape and not known.nullable:
        return np.fromiter(values, known.datatype.numpy, n_rows)
    values = list(values)
    if not boxed:
        made = np.array(values, dtype=known.datatype.numpy)
        # reshape infers one size at most: with more than one open, numpy's own shape stands
        return made if known.shape.count(-1) > 1 else made.reshape(n_rows, *known.shape)
    if known.shape:
        return np.array([np.asarray(value, dtype=object) for value in values], dtype=object)
    column = np.empty(n_rows, dtype=object)
    column[:] = values
    return column
