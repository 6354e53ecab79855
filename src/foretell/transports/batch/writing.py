"""Writing puts scored rows into files of one form, a part at a time.

Rules:

1. Parquet's row groups have `row_group_rows` rows, whatever sizes the pieces have, or fewer where
   rows are wide. A column whose first values hardly repeat is not written as a dictionary: trying
   would cost more than all the rest.
2. CSV has no arrays, and neither lists nor structs; missing values are empty there.
3. In NDJSON missing values are null, as is NaN; what JSON has no word for is text.
4. Arrow files have no dictionaries but those that never change: texts are texts.
"""

from __future__ import annotations

import base64
import gzip
import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from foretell.errors import BadSettings
from foretell.transports.batch.dataset import Form
from foretell.transports.batch.reading.typed import objects_of
from foretell.transports.batch.scoring.answers import VERSION

_COMPRESSIONS: Mapping[Form, tuple[str, ...]] = {  # the first one is what is taken unless told
    Form.PARQUET: ("snappy", "zstd", "lz4", "gzip", "brotli", "none"),
    Form.ARROW: ("none", "lz4", "zstd"),
    Form.CSV: ("none", "gzip"),
    Form.NDJSON: ("none", "gzip"),
}
_GROUP_BYTES = 32 * 2**20
_SAMPLE_ROWS = 4096
_NDJSON_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Style:
    """How files are written. Raises BadSettings for a compression that the form has not."""

    form: Form
    compression: str | None = None
    row_group_rows: int = 131_072

    def __post_init__(self) -> None:
        known = _COMPRESSIONS[self.form]
        if self.compression is None:
            object.__setattr__(self, "compression", known[0])
        elif self.compression not in known:
            raise BadSettings(
                f"compression is {self.compression!r}, but {self.form} has {', '.join(known)}"
            )

    @property
    def suffix(self) -> str:
        """The end of the names of files: `.parquet`, `.csv.gz`, …"""
        packed = self.form in (Form.CSV, Form.NDJSON) and self.compression == "gzip"
        return f".{self.form}.gz" if packed else f".{self.form}"

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """`schema` as files of this form have it."""
        if self.form is Form.PARQUET:
            return schema
        return pa.schema([_without_dictionary(told) for told in schema])

    def unwritable(self, schema: pa.Schema) -> Iterator[str]:
        """What this form cannot hold, a sentence for each column."""
        for told in self.schema(schema):
            one = pa.schema([told])
            try:
                rows = rows_of(self, io.BytesIO(), one)
                rows.write(pa.RecordBatch.from_pylist([{told.name: None}], one))
                rows.close()
            except (pa.ArrowException, TypeError, ValueError):
                yield (
                    f"column {told.name!r} is {told.type}, which {self.form} cannot hold; "
                    "leave it out of --keep"
                )


def _without_dictionary(told: pa.Field) -> pa.Field:
    is_constant = told.name == VERSION
    if pa.types.is_dictionary(told.type) and not is_constant:
        return told.with_type(told.type.value_type)
    return told


class RowWriter(Protocol):
    """Writes the rows of one file, in order."""

    def write(self, rows: pa.RecordBatch) -> None:
        """The next rows."""
        ...

    def close(self) -> None:
        """What is still to be written; the file itself stays open."""
        ...


def rows_of(style: Style, file: BinaryIO, schema: pa.Schema, *, header: bool = True) -> RowWriter:
    """The writer of a file; without `header`, CSV has no line of names."""
    if style.form is Form.PARQUET:
        return _ParquetRows(style, file, schema)
    own = style.schema(schema)
    if style.form is Form.ARROW:
        codec = None if style.compression == "none" else style.compression
        writer = pa.ipc.new_file(file, own, options=pa.ipc.IpcWriteOptions(compression=codec))
        return _Rows(own, writer.write_batch, writer.close)
    packed = style.compression == "gzip"
    sink = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="wb", mtime=0) if packed else file)
    close: Callable[[], object] = sink.close if packed else _nothing
    if style.form is Form.NDJSON:
        return _Rows(own, lambda rows: _write_lines(sink, rows), close)
    options = arrow_csv.WriteOptions(include_header=header)
    lines = arrow_csv.CSVWriter(pa.PythonFile(sink, "w"), own, write_options=options)
    return _Rows(own, lines.write_batch, lambda: (lines.close(), close()))


def _nothing() -> None:
    """The file belongs to whoever opened it."""


class _Rows:
    """Writes batches as they come, in `schema`."""

    def __init__(
        self,
        schema: pa.Schema,
        write: Callable[[pa.RecordBatch], object],
        close: Callable[[], object],
    ) -> None:
        self._schema = schema
        self._write = write
        self._close = close

    def write(self, rows: pa.RecordBatch) -> None:
        """The next rows."""
        self._write(rows if rows.schema == self._schema else rows.cast(self._schema))

    def close(self) -> None:
        """What is still to be written."""
        self._close()


class _ParquetRows:
    """Gathers rows until a row group is full."""

    def __init__(self, style: Style, file: BinaryIO, schema: pa.Schema) -> None:
        self._style = style
        self._file = file
        self._schema = schema
        self._kinds: pa.Schema | None = None
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """The next rows."""
        if self._kinds is None:
            self._kinds = rows.schema
        elif rows.schema != self._kinds:
            # Of a few rows, a model's texts come as they are; of many, as dictionaries.
            rows = rows.cast(self._kinds)
        while rows.num_rows:
            room = self._style.row_group_rows - self._rows
            taken, rows = rows.slice(0, room), rows.slice(room)
            self._waiting.append(taken)
            self._rows += taken.num_rows
            self._bytes += taken.nbytes
            if self._rows >= self._style.row_group_rows or self._bytes >= _GROUP_BYTES:
                self._write_group()

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._waiting, None if self._waiting else self._schema)
        if self._writer is None:
            self._writer = self._opened(table)
        self._writer.write_table(table, max(self._rows, 1))
        self._waiting, self._rows, self._bytes = [], 0, 0

    def _opened(self, table: pa.Table) -> Any:
        repeating = [name for name in table.column_names if _repeats(table.column(name))]
        # The least and the greatest of a few words say nothing of a row group, and cost as much as
        # writing them.
        told_of = [
            name
            for name in table.column_names
            if name not in repeating or not _is_text(table.schema.field(name).type)
        ]
        writer = pq.ParquetWriter(
            self._file,
            table.schema,
            compression=self._style.compression,
            use_dictionary=repeating,
            write_statistics=told_of,
            store_schema=False,
        )
        # Texts that came as dictionaries are written as such, but are texts to who reads them.
        told = base64.b64encode(self._schema.serialize())
        writer.add_key_value_metadata({"ARROW:schema": told.decode()})
        return writer

    def close(self) -> None:
        """What is still to be written."""
        if self._rows or self._writer is None:
            self._write_group()
        self._writer.close()

    def __del__(self) -> None:
        if self._writer is not None:
            # What was not closed is left away: pyarrow would write its end into a closed file.
            self._writer.is_open = False


def _is_text(told: pa.DataType) -> bool:
    plain = told.value_type if pa.types.is_dictionary(told) else told
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a column's first values are the same ones again and again."""
    told = column.type
    if pa.types.is_dictionary(told):
        return True
    if pa.types.is_nested(told) or pa.types.is_boolean(told) or pa.types.is_null(told):
        return False
    sample = column.slice(0, _SAMPLE_ROWS)
    return bool(pc.count_distinct(sample).as_py() * 4 <= len(sample))


def _write_lines(file: BinaryIO, rows: pa.RecordBatch) -> None:
    encode = msgspec.json.Encoder(enc_hook=str).encode_lines
    names = rows.schema.names
    for start in range(0, rows.num_rows, _NDJSON_ROWS):
        part = rows.slice(start, _NDJSON_ROWS)
        columns = [objects_of(column) for column in part.columns]
        file.write(
            encode([dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)])
        )


def join(
    style: Style, parts: Iterable[Callable[[], BinaryIO]], file: BinaryIO, schema: pa.Schema
) -> None:
    """Make one file of `parts`, which were written without a header."""
    if style.form in (Form.CSV, Form.NDJSON):
        rows_of(style, file, schema).close()  # the line of names, where there is one
        for opened in parts:
            with opened() as part:
                shutil.copyfileobj(part, file, 2**20)
        return
    rows = rows_of(style, file, schema)
    for opened in parts:
        with opened() as part:
            for batch in _read_again(style, part):
                rows.write(batch)
    rows.close()


def _read_again(style: Style, part: BinaryIO) -> Iterator[pa.RecordBatch]:
    if style.form is Form.PARQUET:
        with pq.ParquetFile(part, pre_buffer=False) as parquet:
            yield from parquet.iter_batches(use_threads=False)
    else:
        reader = pa.ipc.open_file(part)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
