"""NDJSON files: a JSON object a line, judged by the signature as every JSON row is.

Rules:

1. Blank lines don't count. A line that is no object is a bad row, and so is one with a value that
   its input refuses, or with a carried value of another kind than most of the first ones had.
2. A key that is not there is a missing value: many writers leave out what is null.
3. Carried columns have the types of the values in the first block; a key that is not among them
   makes a bad row, also within a value, unless it was said which columns are carried. So does a
   whole number that its column would round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from foretell.core.field import spoken
from foretell.errors import InvalidInput
from foretell.transports.batch.dataset import Source
from foretell.transports.batch.reading.columnar import told_of
from foretell.transports.batch.reading.pieces import MIXED, Layout, Piece, Wanted
from foretell.transports.batch.reading.typed import Refusals, type_of

_BLOCK_BYTES = 2 * 2**20
_MOST_LINE_BYTES = 64 * 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXACT = 2.0**53 - 1
"""Up to here, a float stands for one whole number only."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNTYPED = (pa.ArrowException, TypeError, ValueError, OverflowError)


class NdjsonReader:
    """Reads JSON objects, one a line."""

    def look(self, source: Source) -> Layout:
        """The keys of the first block's objects, and the types of their values."""
        lines = next(_blocks(source), None)
        if lines is None:
            return Layout(None)
        rows = [row for row in map(_decoded, lines) if isinstance(row, dict)]
        names = dict.fromkeys(name for row in rows for name in row)
        return Layout(pa.schema([_inferred(name, rows) for name in names]))

    def read(
        self, source: Source, wanted: Wanted, start: int, stop: int | None, batch_rows: int
    ) -> Iterator[Piece]:
        """The rows with numbers from `start` to `stop`, in order."""
        schema = _schema(wanted)
        first = 0
        for lines in _blocks(source):
            end = first + len(lines)
            if end > start:
                piece = _piece(wanted, schema, lines, first)
                yield from piece.rows(start, end if stop is None else stop).cut(batch_rows)
            first = end
            if stop is not None and end >= stop:
                return


def _blocks(source: Source) -> Iterator[list[bytes]]:
    """The lines that are not blank, a few megabytes at a time."""
    with told_of(source, "NDJSON"), source.reading() as file:
        rest = file.read(len(_BYTE_ORDER_MARK)).removeprefix(_BYTE_ORDER_MARK)
        while chunk := file.read(_BLOCK_BYTES):
            whole, newline, chunk = chunk.rpartition(b"\n")
            rest, lines = (chunk, rest + whole) if newline else (rest + chunk, b"")
            if len(rest) > _MOST_LINE_BYTES:
                raise InvalidInput(
                    f"{source.path} has a line of more than {_MOST_LINE_BYTES} bytes"
                )
            if found := [line for line in lines.split(b"\n") if line.strip()]:
                yield found
        if rest.strip():
            yield [rest]


def _decoded(line: bytes) -> object:
    """The value in a line; None for a line that is none."""
    try:
        return msgspec.json.decode(line)
    except _UNREADABLE:
        return None


def _inferred(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Field:
    """The type of what most of the rows have."""
    kinds: dict[type, list[Any]] = {}
    for row in rows:
        if (value := row.get(name)) is not None:
            kinds.setdefault(float if type(value) is int else type(value), []).append(value)
    try:
        told = pa.array(max(kinds.values(), key=len, default=[""])).type
    except _UNTYPED:
        return pa.field(name, pa.null(), metadata=MIXED)
    return pa.field(name, told)


def _schema(wanted: Wanted) -> pa.Schema:
    """The types in which all wanted columns are read."""
    types = {name: type_of(feed.field) for feed in wanted.feeds for name in feed.columns}
    types |= {told.name: told.type for told in wanted.carried if told.name in wanted.columns}
    return pa.schema(list(types.items()))


def _piece(wanted: Wanted, schema: pa.Schema, lines: list[bytes], first: int) -> Piece:
    """The rows of `lines`, of which the first has the number `first`."""
    refusals = Refusals(np.arange(first, first + len(lines)), lambda at: _raw(lines[at]))
    columns = _at_once(wanted, schema, lines)
    if columns is None:
        columns = _one_by_one(wanted, schema, lines, refusals)
    piece = wanted.piece(
        (first, len(lines)),
        lambda feed: columns[feed.columns[0]],
        lambda told: columns[told.name],
    )
    return refusals.taken_out_of(piece)


def _at_once(
    wanted: Wanted, schema: pa.Schema, lines: list[bytes]
) -> Mapping[str, pa.Array] | None:
    """All columns, when every line is plainly right; else None."""
    body = b"\n".join(lines)
    # What is not told of is left out, also within values: there it may only be found.
    nested = any(pa.types.is_nested(kind) for kind in schema.types)
    others = "error" if wanted.closed else "infer" if nested else "ignore"
    try:
        table = arrow_json.read_json(
            pa.BufferReader(body),
            arrow_json.ReadOptions(use_threads=False, block_size=len(body) + 1),
            arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others),
        )
        table.validate(full=True)
    except (pa.ArrowException, ValueError):
        return None
    if any(table.schema.field(told.name).type != told.type for told in schema):
        return None
    columns = {told.name: table.column(told.name).combine_chunks() for told in schema}
    fed = {name for feed in wanted.feeds for name in feed.columns}
    if any(len(column) != len(lines) for column in columns.values()):
        return None
    return columns if all(_is_plain(columns[name], name in fed) for name in columns) else None


def _is_plain(column: pa.Array, is_fed: bool) -> bool:
    """Whether a column says what the text says: it has no NaN or Infinity, which are not JSON.

    Nor has it, where it only goes along, numbers of which the text may have had more digits.
    """
    if not pa.types.is_floating(column.type):
        return True
    most = np.finfo(float).max if is_fed else _EXACT
    return pc.all(pc.less_equal(pc.abs(column), most)).as_py() is not False


def _one_by_one(
    wanted: Wanted, schema: pa.Schema, lines: list[bytes], refusals: Refusals
) -> Mapping[str, pa.Array]:
    rows = [_row(line, place, refusals) for place, line in enumerate(lines)]
    if wanted.closed:
        known = set(schema.names)
        for place, row in enumerate(rows):
            if extra := next(iter(row.keys() - known), None):
                reason = f"has {spoken(extra)}, which is not among the columns of the first rows"
                refusals.add(place, extra, reason)
    columns: dict[str, pa.Array] = {}
    for feed in wanted.feeds:
        for name in feed.columns:
            columns[name] = refusals.judged(feed.field, [row.get(name) for row in rows])
    for told in schema:
        if told.name not in columns:
            columns[told.name] = _typed(told, [row.get(told.name) for row in rows], refusals)
        elif columns[told.name].type != told.type:
            columns[told.name] = columns[told.name].cast(told.type)
    return columns


def _row(line: bytes, place: int, refusals: Refusals) -> dict[str, Any]:
    try:
        row = msgspec.json.decode(line)
    except _UNREADABLE as error:
        reason, row = f"is not JSON: {error}", None
    else:
        reason = f"is {spoken(row)}, but must be an object"
    if isinstance(row, dict):
        return row
    refusals.add(place, None, reason)
    return {}


def _raw(line: bytes) -> object:
    """A line as it may stand in JSON: its value, or its text where it has none."""
    try:
        return msgspec.json.decode(line)
    except _UNREADABLE:
        return line.decode(errors="replace")


def _typed(told: pa.Field, values: list[Any], refusals: Refusals) -> pa.Array:
    """Values of a carried column; those of another kind are refused."""
    read = list(values)
    if pa.types.is_nested(told.type):
        for place, value in enumerate(values):
            if (key := _unknown(value, told.type)) is not None:
                reason = f"{told.name!r} has {spoken(key)}, which the first rows have not"
                refusals.add(place, told.name, reason)
                read[place] = None  # what is refused leaves a gap
    try:
        return pa.array(read, told.type)
    except _UNTYPED:
        for place, value in enumerate(read):
            try:
                pa.array([value], told.type)
            except _UNTYPED:
                reason = f"{told.name!r} is {spoken(value)}, but most of the first are {told.type}"
                refusals.add(place, told.name, reason)
                read[place] = None
        return pa.array(read, told.type)


def _unknown(value: object, kind: pa.DataType) -> str | None:
    """A key within a value that its type has not, and would lose."""
    inner: list[tuple[object, pa.DataType]] = []
    if isinstance(value, dict) and pa.types.is_struct(kind):
        if (unknown := next((key for key in value if key not in kind.names), None)) is not None:
            return str(unknown)
        inner = [(one, kind.field(key).type) for key, one in value.items()]
    elif isinstance(value, list) and pa.types.is_list(kind):
        inner = [(one, kind.value_type) for one in value]
    found = (_unknown(one, told) for one, told in inner)
    return next((key for key in found if key is not None), None)
