"""A piece is some rows of one file on their way through a job, with those that are no rows beside.

Rules:

1. Rows have numbers: their place in their file, from 0. A line of names and blank lines don't
   count; a row that could not be read does.
2. A piece has its rows twice: `inputs`, one column for each input of the model under its name, and
   `carried`, the columns that go to the output as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from foretell.core.field import Array, Field

MIXED = {b"foretell": b"mixed"}
"""The metadata of a column whose values have no type in common."""


class BadRow(NamedTuple):
    """A row that gets no answer: its number, the column that is to blame where one is, and why.

    `raw` is what there is of it, as it was read: text, or values by column.
    """

    row: int
    column: str | None
    reason: str
    raw: object = None


class Feed(NamedTuple):
    """Where an input's values come from: these columns (one, but for arrays in CSV), or `constant`.

    A constant is what the file's folder tells (`region=eu/`).
    """

    field: Field
    columns: tuple[str, ...]
    constant: pa.Scalar | None = None


@dataclass(frozen=True)
class Wanted:
    """What is read of a file: the inputs' columns, and those that are carried.

    `constants` are those of the carried columns whose value the file's folder tells. `closed`: all
    columns are carried, and a row with another one would lose it.
    """

    feeds: tuple[Feed, ...]
    carried: pa.Schema
    constants: Mapping[str, pa.Scalar] = field(default_factory=dict)
    closed: bool = False

    @cached_property
    def columns(self) -> list[str]:
        """The names of all columns that are read, each once."""
        told = [name for feed in self.feeds for name in feed.columns]
        told += [name for name in self.carried.names if name not in self.constants]
        return list(dict.fromkeys(told))

    def piece(
        self,
        place: tuple[int, int],
        values: Callable[[Feed], pa.Array],
        column: Callable[[pa.Field], pa.Array],
        bad: Sequence[BadRow] = (),
    ) -> Piece:
        """A piece of (start, n_rows) that has the `values` of each feed and carried columns."""
        start, n_rows = place
        many = n_rows - len(bad)
        inputs = [
            values(feed) if feed.constant is None else pa.repeat(feed.constant, many)
            for feed in self.feeds
        ]
        carried = [
            pa.repeat(self.constants[told.name], many)
            if told.name in self.constants
            else column(told)
            for told in self.carried
        ]
        names = [feed.field.name for feed in self.feeds]
        return Piece(
            start,
            n_rows,
            batch_of(inputs, names, many),
            batch_of(carried, self.carried.names, many),
            tuple(bad),
        )


class Layout(NamedTuple):
    """What a file tells before its rows are read.

    `schema` None: it is empty, and tells nothing. `groups` are the rows of each row group, where
    the form has such; else nobody knows how many rows there are. `widths`: the bytes that a row
    takes in columns of texts and lists, of those where the form tells.
    """

    schema: pa.Schema | None
    groups: tuple[int, ...] | None = None
    widths: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Piece:
    """`n_rows` rows of a file, from number `start` on; those in `bad` are in no column."""

    start: int
    n_rows: int
    inputs: pa.RecordBatch
    carried: pa.RecordBatch
    bad: tuple[BadRow, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + self.n_rows

    def numbers(self) -> Array:
        """The numbers of the rows in the columns."""
        every = np.arange(self.start, self.stop)
        if not self.bad:
            return every
        return np.delete(every, [bad.row - self.start for bad in self.bad])

    def rows(self, start: int, stop: int) -> Piece:
        """Only the rows with numbers from `start` to `stop`; columns are not copied."""
        start, stop = max(start, self.start), max(start, min(stop, self.stop))
        if (start, stop) == (self.start, self.stop):
            return self
        first = start - self.start - sum(bad.row < start for bad in self.bad)
        bad = tuple(bad for bad in self.bad if start <= bad.row < stop)
        many = stop - start - len(bad)
        inputs, carried = self.inputs.slice(first, many), self.carried.slice(first, many)
        return Piece(start, stop - start, inputs, carried, bad)

    def cut(self, most: int) -> Iterator[Piece]:
        """This piece in pieces of at most `most` rows.

        They are the same ones wherever a job goes on: the last bits of answers depend on them.
        """
        start = self.start
        while start < self.stop:
            stop = start - start % most + most
            yield self.rows(start, stop)
            start = stop


def batch_of(columns: Sequence[Any], names: Sequence[str], n_rows: int) -> pa.RecordBatch:
    """A RecordBatch that knows its number of rows even when it has no columns."""
    if names:
        return pa.RecordBatch.from_arrays(list(columns), list(names))
    return pa.RecordBatch.from_struct_array(pa.array([{}] * n_rows, pa.struct([])))


def chosen(batch: pa.RecordBatch, keep: Array) -> pa.RecordBatch:
    """The rows of `batch` where `keep` is true."""
    if batch.num_columns:
        return batch.filter(pa.array(keep))
    return batch_of([], [], int(keep.sum()))
