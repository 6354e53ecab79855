"""Columnar files, Parquet and Arrow IPC: their columns have types; values are judged later.

Rules:

1. Parquet is read page by page: memory does not depend on the size of its row groups.
2. Texts that a Parquet file keeps as a dictionary stay one, for the model and for the output; an
   Arrow file's record batches are read whole, one at a time.
3. What cannot be read is InvalidInput, and names the file. Text that is not UTF-8 makes a bad row.
4. A stream of record batches has its end mark, which the format leaves optional: without it, a file
   that was cut off between two of them would look whole.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foretell.errors import InvalidInput
from foretell.transports.batch.dataset import Source
from foretell.transports.batch.reading.pieces import Layout, Piece, Wanted
from foretell.transports.batch.reading.typed import Refusals, fixed_bytes, objects_of, text_of

_BUFFER_BYTES = 2**20
_PLAIN_BYTES = 4
"""A text that is not in a dictionary takes as many for its length alone."""

_DICTIONARY_BYTES = 2 * 2**20

_ARROW_FILE = b"ARROW1"
_OLD_FEATHER = b"FEA1"
_END_MARK = b"\xff\xff\xff\xff\0\0\0\0"


@contextmanager
def told_of(source: Source, form: str, *, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Whatever is said of a file that is not `form` is InvalidInput, and names the file.

    What is `but` such an error goes on as it is.
    """
    try:
        yield
    except but:
        raise
    except (pa.ArrowException, OSError, ValueError, EOFError, zlib.error) as error:
        told = " ".join(str(error).split())[:300]
        raise InvalidInput(f"{source.path} is not readable as {form}: {told}") from error


class ParquetReader:
    """Reads Parquet; a footer tells the rows of each row group."""

    def look(self, source: Source) -> Layout:
        """The columns, and the rows of each row group. Raises InvalidInput."""
        with told_of(source, "Parquet"), source.open() as file, pq.ParquetFile(file) as parquet:
            return Layout(parquet.schema_arrow, _sizes(parquet), _widths(parquet))

    def read(
        self, source: Source, wanted: Wanted, start: int, stop: int | None, batch_rows: int
    ) -> Iterator[Piece]:
        """The rows with numbers from `start` to `stop`, in order."""
        with told_of(source, "Parquet"), source.reading() as file:
            told = _footer(source)
            options = {
                "pre_buffer": False,
                "buffer_size": _BUFFER_BYTES,
                "read_dictionary": list(_coded(told, wanted.columns)),
                "metadata": told,
            }
            with pq.ParquetFile(file, **options) as parquet:
                groups, first = _groups(_sizes(parquet), start, stop)
                batches = parquet.iter_batches(
                    batch_rows, row_groups=groups, columns=wanted.columns, use_threads=False
                )
                yield from _pieces(batches, wanted, first, (start, stop))


@lru_cache(maxsize=32)
def _footer(source: Source) -> Any:
    """What a file's end tells of it: read once for all parts of a file that are read in turn.

    A part that read it again would leave it to the garbage collector, some megabytes each time.
    """
    with source.open() as file:
        return pq.read_metadata(file)


def _coded(told: Any, names: Sequence[str]) -> Iterator[str]:
    """The columns of texts that the file keeps as dictionaries: few bytes a value.

    They stay so on their whole way: nothing is made of each text, and nothing looked up again.
    """
    if not told.num_row_groups:
        return
    first = told.row_group(0)
    for place in range(told.num_columns):
        column = first.column(place)
        is_text = told.schema.column(place).logical_type.type == "STRING"
        small = column.total_uncompressed_size < _PLAIN_BYTES * column.num_values
        if is_text and small and column.path_in_schema in names:
            yield column.path_in_schema


def _sizes(parquet: Any) -> tuple[int, ...]:
    told = parquet.metadata
    return tuple(told.row_group(number).num_rows for number in range(told.num_row_groups))


def _widths(parquet: Any) -> dict[str, int]:
    """The bytes of a row in columns whose values have no size in common, where the file tells.

    By the row group whose rows take most.
    """
    schema, told = parquet.schema_arrow, parquet.metadata
    loose = {column.name for column in schema if fixed_bytes(column.type) is None}
    filled = [told.row_group(n) for n in range(told.num_row_groups if loose else 0)]
    widest = max(
        (group for group in filled if group.num_rows),
        key=lambda group: group.total_byte_size / group.num_rows,
        default=None,
    )
    leaves = [column.name for column in schema for _ in range(_leaves(column.type))]
    if widest is None or len(leaves) != told.num_columns:
        return {}
    coded = set(_coded(told, list(loose)))
    found = {name: _PLAIN_BYTES if name in coded else 0 for name in loose}
    for place, name in enumerate(leaves):
        if name in found and name not in coded:
            size = _bytes(widest.column(place))
            if size is None:
                del found[name]
            else:
                found[name] += size // widest.num_rows
    return found


def _leaves(told: pa.DataType) -> int:
    """How many columns Parquet makes of one of this type."""
    return sum(_leaves(told.field(n).type) for n in range(told.num_fields)) or 1


def _bytes(chunk: Any) -> int | None:
    """What the values of a column chunk take when they are read; None where it does not tell."""
    if not chunk.physical_type.endswith("BYTE_ARRAY"):
        return 8 * int(chunk.num_values)
    size = int(chunk.total_uncompressed_size)
    # Writers give dictionaries up that grow too large. A small chunk may have nothing but one, each
    # of whose texts is read as often as it is named.
    if chunk.has_dictionary_page and size < _DICTIONARY_BYTES + 4 * chunk.num_values:
        return None
    return size


def _groups(sizes: Sequence[int], start: int, stop: int | None) -> tuple[list[int], int]:
    """The row groups with rows from `start` to `stop`, and the number of their first row."""
    groups: list[int] = []
    first = place = 0
    for number, size in enumerate(sizes):
        if place + size > start and (stop is None or place < stop):
            first = first if groups else place
            groups.append(number)
        place += size
    return groups, first


class ArrowReader:
    """Reads Arrow IPC: files (Feather's second version is one) and streams."""

    def look(self, source: Source) -> Layout:
        """The columns. Raises InvalidInput."""
        with told_of(source, "Arrow"), source.open() as file:
            opened = _opened(file)
            if isinstance(opened, pa.ipc.RecordBatchStreamReader):
                _check_end(file)
            return Layout(opened.schema)

    def read(
        self, source: Source, wanted: Wanted, start: int, stop: int | None, batch_rows: int
    ) -> Iterator[Piece]:
        """The rows with numbers from `start` to `stop`, in order."""
        with told_of(source, "Arrow"), source.reading() as file:
            for piece in _pieces(_batches(_opened(file)), wanted, 0, (start, stop)):
                yield from piece.cut(batch_rows)


def _opened(file: BinaryIO) -> Any:
    """A reader of an IPC file or stream. Raises ArrowInvalid."""
    magic = file.read(len(_ARROW_FILE))
    file.seek(0)
    if magic.startswith(_OLD_FEATHER):
        raise pa.ArrowInvalid("it is Feather's first version; write it anew with pyarrow.feather")
    if magic == _ARROW_FILE:
        return pa.ipc.open_file(file)
    return pa.ipc.open_stream(file)


def _check_end(file: BinaryIO) -> None:
    file.seek(-min(len(_END_MARK), file.seek(0, os.SEEK_END)), os.SEEK_END)
    if file.read() != _END_MARK:
        raise pa.ArrowInvalid(
            "the stream has no end mark: it was cut off, or not closed; write it anew"
        )


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
    else:
        yield from reader


def _pieces(
    batches: Iterator[pa.RecordBatch], wanted: Wanted, first: int, part: tuple[int, int | None]
) -> Iterator[Piece]:
    """`batches`, of which the first has the row number `first`, as far as they are in `part`."""
    start, stop = part
    for batch in batches:
        end = first + batch.num_rows
        if end > start:
            piece = piece_of(batch, wanted, first).rows(start, end if stop is None else stop)
            if piece.n_rows:
                yield piece
        first = end
        if stop is not None and end >= stop:
            return


def piece_of(batch: pa.RecordBatch, wanted: Wanted, start: int) -> Piece:
    """A RecordBatch with the wanted columns as a piece; rows whose text is not UTF-8 are bad."""
    columns = {name: batch.column(name) for name in wanted.columns}
    refusals = Refusals(
        np.arange(start, start + batch.num_rows),
        lambda at: {name: objects_of(column.slice(at, 1))[0] for name, column in columns.items()},
    )
    for name, column in columns.items():
        if not _is_utf8(column):
            plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            columns[name] = text_of(plain.cast(pa.binary()), name, refusals)
    piece = wanted.piece(
        (start, batch.num_rows),
        lambda feed: columns[feed.columns[0]],
        lambda told: _of_type(columns[told.name], told.type),
    )
    return refusals.taken_out_of(piece)


def _is_utf8(column: pa.Array) -> bool:
    """Whether a column of texts, which any writer may have made of any bytes, is what it says."""
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type):
        try:
            texts.validate(full=True)
        except pa.ArrowInvalid:
            return False
    return True


def _of_type(column: Any, told: pa.DataType) -> Any:
    kind = column.type
    if kind == told or (pa.types.is_dictionary(kind) and kind.value_type == told):
        return column
    return column.cast(told)
