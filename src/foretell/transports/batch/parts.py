"""Parts are the units in which a job is done: some rows of one file, and the file they go to.

Rules:

1. Parquet is cut at the borders of row groups, as soon as there are `part_rows`; a larger row group
   makes several parts. Other forms are cut every `part_rows` rows.
2. Names tell the file and the part, so that a part that is done again replaces itself.
3. What must be read one after the other is one stream: a file of unknown length, a large row group.
   Where it is resumed, the rows of parts that are done are read over.
4. A file without rows makes one part without rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from foretell.core.datatype import Datatype
from foretell.transports.batch.dataset import Source
from foretell.transports.batch.reading.forms import READERS
from foretell.transports.batch.reading.pieces import Layout, Piece, Wanted
from foretell.transports.batch.reading.typed import fixed_bytes, type_of

_PIECE_BYTES, _CAREFUL_BYTES = 16 * 2**20, 4 * 2**20
_LEAST_ROWS, _MOST_ROWS = 64, 131_072
_LOOSE_BYTES = 32  # of a text or a list, at least


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of one source that one stream reads, and the number of its first part.

    `stop` None: to its end, wherever that is. `part_rows` None: it is one part.
    """

    source: int
    start: int
    stop: int | None
    first_part: int
    part_rows: int | None

    def part_of(self, row: int) -> int:
        """The number of the part that has the row."""
        if self.part_rows is None:
            return self.first_part
        return self.first_part + (row - self.start) // self.part_rows

    def rows_of(self, part: int) -> tuple[int, int | None]:
        """The first row of a part, and the one behind it."""
        if self.part_rows is None:
            return self.start, self.stop
        start = self.start + (part - self.first_part) * self.part_rows
        stop = start + self.part_rows
        return start, stop if self.stop is None else min(stop, self.stop)

    @property
    def parts(self) -> int | None:
        """How many parts there are; None when nobody knows yet."""
        if self.part_rows is None:
            return 1
        return None if self.stop is None else max(1, -(-(self.stop - self.start) // self.part_rows))


def stretches_of(
    source: int, layout: Layout, part_rows: int, stop: int | None
) -> Iterator[Stretch]:
    """The stretches of a source, of which rows up to `stop` are wanted (None: all)."""
    if layout.groups is None:
        yield Stretch(source, 0, stop, 0, part_rows)
        return
    n_rows = sum(layout.groups)
    n_rows = n_rows if stop is None else min(n_rows, stop)
    start = end = part = 0
    for size in layout.groups:
        if size > part_rows and end > start:
            yield Stretch(source, start, end, part, None)
            start, part = end, part + 1
        end = min(end + size, n_rows)
        if end - start > part_rows and size > part_rows:
            large = Stretch(source, start, end, part, part_rows)
            yield large
            start, part = end, part + (large.parts or 1)
        elif end - start >= part_rows:
            yield Stretch(source, start, end, part, None)
            start, part = end, part + 1
        if end == n_rows:
            break
    if end > start or not part:
        yield Stretch(source, start, end, part, None)


def name_of(source: int, part: int) -> str:
    """The name of a part, without that of its folder."""
    return f"part-{source:05d}-{part:05d}"


@dataclass(slots=True)
class PartStream:
    """Reads a stretch; each piece has rows of one part, and parts that were done are left out."""

    stretch: Stretch
    source: Source
    wanted: Wanted
    batch_rows: int
    done: Collection[str]
    seen: int = -1
    """The highest number of a part that has come by."""

    def read(self) -> Iterator[tuple[int, Piece]]:
        """Pieces, each with the number of its part."""
        stretch = self.stretch
        first = stretch.first_part
        while self._is_done(first):
            first += 1
        start = stretch.rows_of(first)[0]
        nothing = True
        reader = READERS[self.source.form]
        for piece in reader.read(self.source, self.wanted, start, stretch.stop, self.batch_rows):
            left = piece
            while left.n_rows:
                number = stretch.part_of(left.start)
                border = stretch.rows_of(number)[1]
                stop = left.stop if border is None else min(border, left.stop)
                self.seen = max(self.seen, number)
                if not self._is_done(number):
                    yield number, left.rows(left.start, stop)
                nothing = False
                if stop == left.stop:
                    break
                left = left.rows(stop, left.stop)
        if nothing:
            self.seen = first
            yield first, self._without_rows(start)

    def _is_done(self, part: int) -> bool:
        return name_of(self.stretch.source, part) in self.done

    def _without_rows(self, start: int) -> Piece:
        return self.wanted.piece(
            (start, 0),
            lambda feed: pa.array([], type_of(feed.field)),
            lambda told: pa.array([], told.type),
        )


def batch_rows_of(wanted: Wanted, widths: Mapping[str, int], *, careful: bool) -> int:
    """Rows of a piece: about 16 MiB of what is read, as wide as its columns are.

    `widths`: what files tell of columns whose values have no size in common. Where they do not, or
    `careful`, since nobody knows what a model makes of its rows on the way: a quarter of it.
    """
    width = 0
    for feed in wanted.feeds:
        elements = 1
        for size in feed.field.shape:
            elements *= max(size, 1)
        width += 8 * elements
        if feed.field.datatype is Datatype.BYTES or feed.field.shape:
            width += sum(widths.get(name, 0) for name in feed.columns)
            careful |= not widths.keys() >= set(feed.columns)
    fed = {name for feed in wanted.feeds for name in feed.columns}
    for column in wanted.carried:
        if column.name not in fed:
            fixed = fixed_bytes(column.type)
            width += fixed or max(widths.get(column.name, 0), _LOOSE_BYTES)
            careful |= not (fixed or column.name in widths or column.name in wanted.constants)
    most = (_CAREFUL_BYTES if careful else _PIECE_BYTES) // max(width, 1)
    return min(1 << (max(most, _LEAST_ROWS).bit_length() - 1), _MOST_ROWS)
