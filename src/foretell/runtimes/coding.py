"""Coding is how texts go into a graph that Foretell compiled: as codes of the words it knows.

Rules:

1. A graph takes `numbers`, float64, and `codes`, int64, each of the fields of that kind in their
   order. A missing boolean is NaN.
2. The code of a text it does not know is 0, that of a missing one 1, its words follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretell.core.batch import FEW_ROWS, Batch, Chosen, flattened
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.runtimes.tables import Table, Tabulate

UNKNOWN, MISSING = 0, 1
_FLOAT64 = np.dtype(np.float64)


class Codes(dict[str | None, int]):
    """The codes of one column's texts; what is not there is unknown."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__({word: code for code, word in enumerate(words, MISSING + 1)})
        self[None] = MISSING
        self._last: tuple[Array, Array] | None = None

    def __missing__(self, text: str | None) -> int:
        return UNKNOWN

    def of(self, column: Array | Chosen) -> Array:
        """The codes of a column of texts."""
        if isinstance(column, Chosen):
            if len(column.choices) > len(column):
                return self.of(column.values)
            last = self._last  # the parts of a large batch have the same choices
            if last is None or last[0] is not column.choices:
                self._last = last = column.choices, self.of(column.choices)
            codes: Array = last[1][column.places]
            return codes
        return np.fromiter(map(self.__getitem__, column.tolist()), np.int64, len(column))


def coded(inputs: tuple[Field, ...], words: Sequence[Sequence[str]]) -> Tabulate:
    """The function from batches of `inputs` to what a graph that knows `words` is fed."""
    texts = [n for n, field in enumerate(inputs) if field.datatype is Datatype.BYTES]
    numbers = [n for n, field in enumerate(inputs) if field.datatype is not Datatype.BYTES]
    known = [Codes(part) for part in words]

    def of_rows(batch: Batch) -> Table:
        rows, feed = batch.rows, {}
        if numbers:
            of_numbers = [[row[n] for n in numbers] for row in rows] if texts else rows
            shape = (batch.n_rows, len(numbers))
            feed["numbers"] = flattened(of_numbers, _FLOAT64).reshape(shape)
        if texts:
            pairs = list(zip(texts, known, strict=True))
            feed["codes"] = np.array([[codes[row[n]] for n, codes in pairs] for row in rows])
        return feed

    def of_columns(batch: Batch) -> Table:
        columns, feed = batch.chosen, {}
        if numbers:
            feed["numbers"] = np.empty((batch.n_rows, len(numbers)))
            for place, n in enumerate(numbers):
                feed["numbers"][:, place] = np.asarray(columns[n])
        if texts:
            feed["codes"] = np.empty((batch.n_rows, len(texts)), np.int64)
            for place, (n, codes) in enumerate(zip(texts, known, strict=True)):
                feed["codes"][:, place] = codes.of(columns[n])
        return feed

    return lambda batch: (of_rows if batch.n_rows <= FEW_ROWS else of_columns)(batch)
