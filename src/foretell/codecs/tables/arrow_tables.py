"""An Arrow table is a batch in Arrow's memory; it travels as an IPC stream or as Parquet.

Rules:

1. Numbers, booleans, texts (plain, large, views, dictionary-encoded), nulls and lists of them
   (of any kind, for shaped fields) are read. Nothing else is: what a decimal or a timestamp is
   to a model, its caller has to say.
2. A null is a missing value, and so is NaN, as everywhere.
3. Whatever is malformed is refused before its values are touched, and what would grow over
   the limits before it is unpacked (`expansion`).
4. Outputs go out under their names, in the datatypes of the signature; shaped ones as lists.

pyarrow is imported when the first table comes: it is an extra.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from foretell.codecs.tables.columns import accepted, boxed, check_count, check_names, too_many
from foretell.codecs.tables.expansion import Bytes, Unreadable, records_of, unpacked_size
from foretell.codecs.tables.parquet_layout import check_pages, layout_of
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, MissingExtra, TooLarge

_SPARE_MESSAGES = 1000  # of an Arrow stream: schema, dictionaries, batches without rows
_ARROW_FILE = b"ARROW1"


class TableLimits(NamedTuple):
    """What one body may hold: rows, and bytes once it is unpacked."""

    max_rows: int
    max_bytes: int


def pyarrow() -> Any:
    """The library. Raises MissingExtra."""
    try:
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(
            "install foretell[columnar] to read and write Arrow and Parquet"
        ) from error
    return pa


def read_stream(signature: Signature, body: bytes, limits: TableLimits) -> Batch:
    """The rows of an Arrow IPC stream, accepted. Raises InvalidInput, TooLarge, MissingExtra."""
    pa = pyarrow()
    if body.startswith(_ARROW_FILE):
        raise InvalidInput("the body is an Arrow file; send an Arrow stream (pyarrow: new_stream)")
    with _told_of(pa, "an Arrow stream"):
        _check_messages(pa, body, limits)
        reader = pa.ipc.open_stream(pa.py_buffer(body))
        _check_schema(signature, reader.schema)
        return batch_of(signature, reader.read_all(), limits)


def read_rows(body: bytes, limits: TableLimits) -> list[dict[str, Any]]:
    """The rows of an Arrow IPC stream as they are. Raises InvalidInput, TooLarge, MissingExtra."""
    pa = pyarrow()
    with _told_of(pa, "an Arrow stream"):
        _check_messages(pa, body, limits)
        table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        table.validate(full=True)
        names = table.column_names
        if len(set(names)) < len(names):
            raise InvalidInput("two columns have the same name")
        check_count(table.num_rows, limits.max_rows)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


def read_parquet(signature: Signature, body: bytes, limits: TableLimits) -> Batch:
    """The rows of a Parquet file, accepted. Raises InvalidInput, TooLarge, MissingExtra."""
    pa = pyarrow()
    with _told_of(pa, "Parquet"):
        layout = layout_of(body)
        check_count(layout.n_rows, limits.max_rows)
        # As a dictionary, a text that repeats is one until it is known what all come to.
        texts = list({".".join(chunk.path) for chunk in layout.chunks if chunk.is_text})
        file = pa.parquet.ParquetFile(pa.BufferReader(body), read_dictionary=texts)
        _check_schema(signature, file.schema_arrow)
        check_pages(body, layout, _most_values(signature, limits), Bytes(limits.max_bytes))
        return batch_of(signature, file.read(use_threads=False), limits)


def _most_values(signature: Signature, limits: TableLimits) -> dict[str, int]:
    """How many values each column may have."""
    return {
        field.name: limits.max_bytes // 8
        if -1 in field.shape
        else limits.max_rows * math.prod(field.shape)
        for field in signature.inputs
    }


def batch_of(signature: Signature, table: Any, limits: TableLimits | None = None) -> Batch:
    """The rows of a pyarrow Table, accepted. Raises InvalidInput with field and row."""
    _check_schema(signature, table.schema)
    table.validate(full=True)
    check_count(table.num_rows, limits and limits.max_rows)
    reader = Columns(limits)
    columns = {
        field.name: reader.values(field, table.column(field.name)) for field in signature.inputs
    }
    return accepted(signature, columns)


@contextmanager
def _told_of(pa: Any, form: str) -> Iterator[None]:
    """Whatever pyarrow says of a body that is not `form` is InvalidInput."""
    try:
        yield
    except (Unreadable, pa.ArrowException, OSError, ValueError, LookupError, MemoryError) as error:
        told = " ".join(str(error).split())[:200]
        raise InvalidInput(f"the body is not readable as {form}: {told}") from None


def _check_messages(pa: Any, body: bytes, limits: TableLimits) -> None:
    """Raise TooLarge when an IPC stream would grow over the limits."""
    room, n_rows, left = Bytes(limits.max_bytes), 0, limits.max_rows + _SPARE_MESSAGES
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
        left -= 1
        if left < 0:
            raise TooLarge("the stream has too many messages; send larger record batches")
        if message.type not in ("record batch", "dictionary"):
            continue
        dictionary = message.type == "dictionary"
        records = records_of(message.metadata.to_pybytes(), dictionary=dictionary)
        if not dictionary:
            if records.n_rows < 0:
                raise Unreadable(f"{records.n_rows} rows")
            n_rows += records.n_rows
            if n_rows > limits.max_rows:
                raise too_many(n_rows, limits.max_rows)
        room.take(unpacked_size(records, memoryview(message.body)))


def _check_schema(signature: Signature, schema: Any) -> None:
    """Raise InvalidInput for names and types that cannot be those of the inputs."""
    check_names(signature, schema.names)
    for field in signature.inputs:
        told = schema.field(field.name).type
        if not is_readable(told, len(field.shape)):
            raise InvalidInput(
                f"column {field.name!r} is {told}, but must be {field.expected}; cast it",
                field=field.name,
            )


def is_readable(told: Any, depth: int) -> bool:
    """Whether a type is one of rule 1, `depth` lists deep."""
    types = pyarrow().types
    if depth:
        return _is_list(types, told) and is_readable(told.value_type, depth - 1)
    if types.is_dictionary(told):
        return _is_plain(types, told.value_type)
    return bool(types.is_null(told) or _is_plain(types, told))


def _is_list(types: Any, told: Any) -> bool:
    kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(is_kind(told) for is_kind in kinds)


def _is_plain(types: Any, told: Any) -> bool:
    kinds = (types.is_integer, types.is_floating, types.is_boolean, *_text_kinds(types))
    return any(is_kind(told) for is_kind in kinds)


def _text_kinds(types: Any) -> tuple[Callable[[Any], bool], ...]:
    return types.is_string, types.is_large_string, types.is_string_view


class Columns:
    """Makes Arrow's columns numpy's; with `limits`, only as far as they allow."""

    def __init__(self, limits: TableLimits | None = None) -> None:
        self._pa = pyarrow()
        self._room = Bytes(limits.max_bytes) if limits else None

    def values(self, field: Field, column: Any) -> Array:
        """The column of `field` as (n, *shape), of values for `Field.accept_column`."""
        only = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        shape: list[int] = [len(only)]
        for wanted in field.shape:
            self._refuse_nulls(field, only, shape)
            only, size = self._opened(field, only, wanted, shape)
            shape.append(size)
        if not field.nullable:
            self._refuse_nulls(replace(field, shape=()) if field.shape else field, only, shape)
        flat = self._flat(only)
        if field.datatype.is_float and self._pa.types.is_null(only.type):
            flat = np.full(len(flat), np.nan)  # which is judged at once, not one by one
        return flat.reshape(shape)

    def _refuse_nulls(self, field: Field, column: Any, shape: list[int]) -> None:
        if column.null_count:
            # Nulls without a type take no bytes, however many a list has: nothing is made of them.
            bare = self._pa.types.is_null(column.type)
            place = 0 if bare else self._pa.compute.index(column.is_null(), True).as_py()
            try:
                field.accept(None)
            except InvalidInput as error:
                raise error.at_row(_row(place, shape)) from None

    def _opened(self, field: Field, column: Any, wanted: int, shape: list[int]) -> tuple[Any, int]:
        """The elements of a column of lists, and how many each has."""
        values = column.flatten()
        if self._pa.types.is_fixed_size_list(column.type):
            sizes = np.full(len(column), column.type.list_size)
        else:
            sizes = self._pa.compute.list_value_length(column).to_numpy(zero_copy_only=False)
        size = wanted if wanted > 0 else int(sizes[0]) if len(sizes) else 0
        wrong = np.flatnonzero(sizes != size)
        if len(wrong):
            place = int(wrong[0])
            raise InvalidInput(
                f"'{field.name}' is an array of {sizes[place]}, but must be "
                + (field.expected if wanted > 0 else f"one of {size} as in the first row"),
                field=field.name,
            ).at_row(_row(place, shape))
        return values, size

    def _flat(self, column: Any) -> Array:
        types, told = self._pa.types, column.type
        if types.is_null(told):
            if self._room is not None:
                self._room.take(8 * len(column))
            return boxed([None] * len(column))
        if types.is_dictionary(told):
            return self._chosen(column)
        if types.is_string_view(told) and self._room is not None:
            self._room.take(_viewed(column))
        plain: Array = column.to_numpy(zero_copy_only=False)
        return plain

    def _chosen(self, column: Any) -> Array:
        """The values of a dictionary-encoded column: each text is one object, however often."""
        choices, indices = self._flat(column.dictionary), column.indices
        if indices.null_count:
            indices = indices.cast(self._pa.int64()).fill_null(len(choices))
            choices = boxed([*choices.tolist(), None])
        places = indices.to_numpy(zero_copy_only=False).astype(np.intp)
        if self._room is not None and choices.dtype.kind == "O":
            sizes = [len(choice) if isinstance(choice, str) else 0 for choice in choices]
            self._room.take(int(np.array(sizes, dtype=np.int64)[places].sum()))
        chosen: Array = choices[places]
        return chosen


def _row(place: int, shape: list[int]) -> int:
    """The row of the element at `place` of a flat column."""
    per_row = 1
    for size in shape[1:]:
        per_row *= size
    return place // max(per_row, 1)


def _viewed(column: Any) -> int:
    """How many bytes of text a column of views shows; several may show the same ones."""
    views = np.frombuffer(column.buffers()[1], "<i4").reshape(-1, 4)
    shown = views[column.offset : column.offset + len(column), 0].astype(np.int64)
    return int(shown.sum())


def table_of(batch: Batch) -> Any:
    """The columns of `batch` as a pyarrow Table. Raises MissingExtra."""
    pa = pyarrow()
    columns = zip(batch.fields, batch.columns, strict=True)
    return pa.table({field.name: array_of(field, column) for field, column in columns})


def array_of(field: Field, column: Array) -> Any:
    """One column of outputs as a pyarrow Array. Raises MissingExtra."""
    pa = pyarrow()
    flat = np.ascontiguousarray(column.reshape(-1))
    made: Any
    if field.datatype is Datatype.BYTES:
        made = pa.array(flat, pa.string())
    elif field.datatype is Datatype.BOOL:
        made = pa.array(flat, pa.bool_())
    else:
        flat = flat.astype(field.datatype.numpy, copy=False)
        made = pa.array(flat, from_pandas=field.nullable)  # NaN is a null where it is missing
    for axis in range(column.ndim - 1, 0, -1):
        size, count = column.shape[axis], int(np.prod(column.shape[:axis]))
        small = size * count < 2**31
        offsets = (np.arange(count + 1) * size).astype("i4" if small else "i8")
        lists = pa.ListArray if small else pa.LargeListArray
        made = lists.from_arrays(offsets, made)
    return made


def type_of(field: Field) -> Any:
    """The pyarrow type of a column of outputs that has no more than 2**31 elements."""
    nothing = np.empty((0, *(max(size, 1) for size in field.shape)), field.datatype.numpy)
    return array_of(field, nothing).type


def write_stream(batch: Batch) -> bytes:
    """`batch` as an Arrow IPC stream. Raises MissingExtra."""
    pa, table = pyarrow(), table_of(batch)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def write_parquet(batch: Batch) -> bytes:
    """`batch` as a Parquet file. Raises MissingExtra."""
    pa, table = pyarrow(), table_of(batch)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    written: bytes = sink.getvalue().to_pybytes()
    return written
