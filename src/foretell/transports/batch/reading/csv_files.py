"""CSV files: text that the signature gives its types, as `codecs.tables.csv_tables` has the rules.

Rules:

1. Carried columns stay text as they stand. Of a shaped input, each element is a column.
2. A row with too few or too many values, and a value that is none of its input's, make a bad
   row; the file is read on.
3. Whole columns are read at once where all of their text is plain; else value by value.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from foretell.codecs.tables.csv_tables import value_of
from foretell.core.field import Datatype, Field
from foretell.errors import InvalidInput
from foretell.transports.batch.dataset import Source
from foretell.transports.batch.reading.columnar import told_of
from foretell.transports.batch.reading.pieces import BadRow, Feed, Layout, Piece, Wanted
from foretell.transports.batch.reading.typed import Refusals, text_of, type_of

_BLOCK_BYTES = 2 * 2**20
_MOST_ROW_BYTES = 32 * 2**20
_TOO_LONG = "straddl"
"""What pyarrow says of a row that is longer than a block, in several sentences."""


class CsvReader:
    """Reads CSV with a line of names."""

    def look(self, source: Source) -> Layout:
        """The names in the first line, all of text."""
        told = _names(source)
        return Layout(None if told is None else pa.schema([(n, pa.string()) for n in told[0]]))

    def read(
        self, source: Source, wanted: Wanted, start: int, stop: int | None, batch_rows: int
    ) -> Iterator[Piece]:
        """The rows with numbers from `start` to `stop`, in order."""
        for block_bytes in (_BLOCK_BYTES, _MOST_ROW_BYTES):
            try:
                for piece in _pieces(source, wanted, (start, stop), block_bytes):
                    yield from piece.cut(batch_rows)
                    start = piece.stop
            except pa.ArrowInvalid as error:
                if _TOO_LONG not in str(error):
                    raise InvalidInput(f"{source.path} is not readable as CSV: {error}") from error
            else:
                return
        raise InvalidInput(
            f"{source.path} has a row of more than {_MOST_ROW_BYTES} bytes, number {start} or one "
            "soon after it: is there a quote that nothing closes?"
        )


def _pieces(
    source: Source, wanted: Wanted, part: tuple[int, int | None], block_bytes: int
) -> Iterator[Piece]:
    """The rows of a part, a block at a time. Raises ArrowInvalid."""
    start, stop = part
    told = _names(source)
    if told is None:
        return
    names, blank = told
    places = {name: f"f{names.index(name)}" for name in wanted.columns}
    unread: list[BadRow] = []
    with told_of(source, "CSV", but=pa.ArrowInvalid), source.reading() as file:
        first = 0
        for batch in _opened(file, list(places.values()), unread, (blank, block_bytes)):
            piece, first = _piece(wanted, places, batch, first, unread)
            if piece.stop > start:
                yield piece.rows(start, piece.stop if stop is None else stop)
            if stop is not None and first >= stop:
                return
        if unread:  # behind the last row that could be read
            empty = pa.RecordBatch.from_pylist([], _binary(places.values()))
            piece, first = _piece(wanted, places, empty, first, unread, to_the_end=True)
            yield piece.rows(start, piece.stop if stop is None else stop)


def _names(source: Source) -> tuple[list[str], int] | None:
    """The names in the first line, and how many blank ones are before it; None without names."""
    with told_of(source, "CSV"), source.open() as file:
        # What lies behind it is read along, and judged later.
        text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
        try:
            for blank, cells in enumerate(csv.reader(text, strict=True)):
                if cells:
                    "".join(cells).encode()
                    return [name.strip() for name in cells], blank
        except (csv.Error, UnicodeEncodeError) as error:
            raise InvalidInput(f"{source.path}: its line of names is not CSV: {error}") from error
    return None


def _binary(names: Any) -> pa.Schema:
    return pa.schema([(name, pa.binary()) for name in names])


def _opened(
    file: Any, columns: list[str], unread: list[BadRow], sizes: tuple[int, int]
) -> Iterator[pa.RecordBatch]:
    """The rows as bytes; those that have another number of values go to `unread`.

    `sizes` tell how many blank lines are before that of names, and how many bytes a block has.
    """
    blank, block_bytes = sizes

    def refuse(row: Any) -> str:
        reason = f"has {row.actual_columns} values, but there are {row.expected_columns} columns"
        number = row.number - 2 - blank  # it counts from 1, and all lines up to that of names
        unread.append(BadRow(number, None, reason, row.text))
        return "skip"

    return arrow_csv.open_csv(  # type: ignore[no-any-return] # pyarrow has no types
        file,
        # Names may be there twice: columns are told by their places.
        arrow_csv.ReadOptions(
            use_threads=False,
            block_size=block_bytes,
            skip_rows=blank,
            autogenerate_column_names=True,
            skip_rows_after_names=1,
        ),
        arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
        arrow_csv.ConvertOptions(
            check_utf8=False,
            column_types=_binary(columns),
            include_columns=columns,
            strings_can_be_null=False,
        ),
    )


def _piece(
    wanted: Wanted,
    places: Mapping[str, str],
    batch: pa.RecordBatch,
    first: int,
    unread: list[BadRow],
    *,
    to_the_end: bool = False,
) -> tuple[Piece, int]:
    """A piece of the rows in `batch`, and the number of the next row.

    Those of `unread` that lie among its rows are taken out of it.
    """
    n_rows = batch.num_rows
    lost: list[BadRow] = []
    while unread and (to_the_end or unread[0].row < first + n_rows + len(lost)):
        lost.append(unread.pop(0))
    every = np.arange(first, first + n_rows + len(lost))
    numbers = np.delete(every, [bad.row - first for bad in lost])
    texts: dict[str, pa.Array] = {}
    refusals = Refusals(
        numbers, lambda at: {name: text[at].as_py() for name, text in texts.items()}
    )
    for name, place in places.items():
        texts[name] = text_of(batch.column(place), name, refusals)
    piece = wanted.piece(
        (first, len(every)),
        lambda feed: _values(feed, texts, refusals),
        lambda told: texts[told.name],
        lost,
    )
    return refusals.taken_out_of(piece), first + len(every)


def _values(feed: Feed, texts: Mapping[str, pa.Array], refusals: Refusals) -> pa.Array:
    """The values of an input, typed."""
    field = feed.field
    columns = [_column(field, texts[name], refusals) for name in feed.columns]
    if not field.shape:
        return columns[0]
    n_rows = len(columns[0])
    flat = pa.chunked_array(columns).combine_chunks()
    # Element by element in memory, and each row's elements are to be together.
    order = np.arange(len(flat)).reshape(len(columns), n_rows).T.ravel()
    made = flat.take(pa.array(order))
    for size in reversed(field.shape):
        made = pa.FixedSizeListArray.from_arrays(made, size)
    return made


def _column(field: Field, text: pa.Array, refusals: Refusals) -> pa.Array:
    if field.datatype is Datatype.BYTES:
        return _empty_as_null(text) if field.nullable else text
    quick = _QUICK.get(field.datatype, _numbers)(field, text)
    if quick is not None:
        return quick
    return refusals.judged(field, [value_of(field, cell) for cell in text.to_pylist()])


def _empty_as_null(text: pa.Array) -> pa.Array:
    empty = pc.equal(text, "")
    return pc.if_else(empty, pa.scalar(None, text.type), text) if pc.any(empty).as_py() else text


def _numbers(field: Field, text: pa.Array) -> pa.Array | None:
    """A column of plain numbers and empty cells; None when there is anything else."""
    try:
        made = _empty_as_null(text).cast(type_of(field, flat=True))
    except pa.ArrowInvalid:
        return None
    if made.null_count and not field.nullable:
        return None
    if not field.datatype.is_integer and not pc.all(pc.is_finite(made)).as_py():
        return None  # words such as inf are no numbers here, nor are numbers beyond all bounds
    return made


def _booleans(_field: Field, _text: pa.Array) -> None:
    """Booleans are few, and are read one by one."""


_QUICK: dict[Datatype, Callable[[Field, pa.Array], pa.Array | None]] = {Datatype.BOOL: _booleans}
