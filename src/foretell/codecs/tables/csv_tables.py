"""A CSV table is a header of names and rows of text, which the signature gives their types.

Rules:

1. The first line names the columns, in any order. Text is UTF-8; blank lines don't count.
2. `24` and `24.0` are numbers as in JSON, `true` and `false` (in any case) booleans, spaces
   around them are nothing. Text is taken as it stands.
3. An empty cell is a missing value, among numbers `nan` and `null`, too; where text is never
   missing, an empty cell is the empty text.
4. Numbers go out so that reading them gives the same number; missing values are empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Annotated, Any

import msgspec
import numpy as np

from foretell.codecs.tables.columns import (
    accepted,
    boxed,
    check_count,
    check_names,
    flat_columns,
    flat_names,
    too_many,
)
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field, Scalar
from foretell.core.signature import Signature
from foretell.errors import InvalidInput

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_NUMERALS = b"0123456789+-.eE "
_INTEGERS = msgspec.json.Decoder(list[_Int64])
_FLOATS = msgspec.json.Decoder(list[float | None])
_MOST_CHARACTERS = 60  # no number is longer, except to no purpose
_MISSING = frozenset({"", "nan", "null"})
_BOOLEANS = {"true": True, "false": False}


def read_csv(signature: Signature, body: bytes, *, max_rows: int, bare: bool = False) -> Batch:
    """The rows of a CSV body, accepted. Raises InvalidInput with field and row, TooLarge.

    With `bare`, a first line without any input's name is a row, as are all: in the order of the
    inputs.
    """
    parts = flat_names(signature.inputs)
    known = {name: None for names in parts.values() for name in names}
    header, rows = _table(body, max_rows, list(known) if bare else None)
    header = [name if name in known else name.strip() for name in header]
    _check_header(signature, header, parts)
    check_count(len(rows), max_rows)
    cells = dict(zip(header, zip(*rows, strict=True), strict=True))
    columns = {
        field.name: _column(field, [cells[name] for name in parts[field.name]])
        for field in signature.inputs
    }
    return accepted(signature, columns)


def _table(
    body: bytes, max_rows: int, names: list[str] | None
) -> tuple[list[str], list[list[str]]]:
    """The names and the rows; `names` are taken when the first line has none of them."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: Iterator[list[str]] = (cells for cells in reader if cells)
    try:
        header = next(lines, None)
        if names and header and {name.strip() for name in header}.isdisjoint(names):
            header, lines = names, chain([header], lines)
        rows = list(islice(_of_width(lines, len(header or ())), max_rows + 1))
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num} is not readable as CSV: {error}") from None
    if header is None:
        raise InvalidInput("the body is empty; send a line of names, and rows below it")
    if len(rows) > max_rows:
        raise too_many(f"more than {max_rows}", max_rows)
    return header, rows


def _of_width(lines: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    """`lines`, up to the first that does not fit: what follows is not read for nothing."""
    for number, cells in enumerate(lines):
        if len(cells) != width:
            raise InvalidInput(
                f"row {number}: has {len(cells)} values, but the header has {width} names",
                row=number,
            )
        yield cells


def _check_header(
    signature: Signature, header: Sequence[str], parts: Mapping[str, list[str]]
) -> None:
    """Raise InvalidInput unless the header has all that there is, once."""
    owner = {name: field for field, names in parts.items() for name in names}
    seen: set[str] = set()
    for name in header:
        if name in owner and name in seen:
            raise InvalidInput(f"two columns are called {name!r}; send one", field=name)
        seen.add(name)
    for field, names in parts.items():
        missing = [name for name in names if name not in seen]
        if missing and len(names) > 1:
            raise InvalidInput(
                f"column {missing[0]!r} is missing; {field!r} has {names[0]} to {names[-1]}",
                field=field,
            )
    check_names(signature, list(dict.fromkeys(owner.get(name, name) for name in header)))


def _column(field: Field, parts: Sequence[Sequence[str]]) -> Array:
    """The values of a field, whose elements are in `parts`, as far as text can be told."""
    read = _reader(field)
    columns = [read(cells) for cells in parts]
    if not field.shape:
        return columns[0]
    return np.stack(columns, axis=1).reshape(-1, *field.shape)


def _reader(field: Field) -> Callable[[Sequence[str]], Array]:
    if field.datatype is Datatype.BYTES:
        return _texts if field.nullable else boxed
    if field.datatype is Datatype.BOOL:
        return lambda cells: boxed([_boolean(cell) for cell in cells])
    return partial(_numbers, _INTEGERS if field.datatype.is_integer else _FLOATS, field.nullable)


def _texts(cells: Sequence[str]) -> Array:
    return boxed([cell or None for cell in cells])


def _boolean(cell: str) -> object:
    word = cell.strip()
    return _BOOLEANS.get(word.lower(), word or None)


def _numbers(decoder: Any, nullable: bool, cells: Sequence[str]) -> Array:
    """A column of numbers at once, where all of it is plain; else each by itself."""
    joined = "".join(cells)
    if joined.isascii() and not joined.encode().translate(None, _NUMERALS):
        told = (cell or "null" for cell in cells) if nullable else cells
        try:
            values = decoder.decode(f"[{','.join(told)}]")
        except msgspec.DecodeError:
            values = ()  # which one, and what it is, is found below
        if len(values) == len(cells):  # the only cell of a column may be empty
            return np.array(values, np.int64 if decoder is _INTEGERS else np.float64)
    return boxed([_number(cell) for cell in cells])


def _number(cell: str) -> object:
    """The number in a cell; None for a missing one, and what is no number as it is."""
    told = cell.strip()
    if told.lower() in _MISSING:
        return None
    plain = told.isascii() and not told.encode().translate(None, _NUMERALS)
    if plain and len(told) <= _MOST_CHARACTERS:
        for number in (int, float):
            try:
                return number(told)
            except ValueError:
                continue
    return cell


def value_of(field: Field, cell: str) -> object:
    """What a cell of `field` says, for `Field.accept`; text, where it is none of what it may be."""
    if field.datatype is Datatype.BYTES:
        return (cell or None) if field.nullable else cell
    return _boolean(cell) if field.datatype is Datatype.BOOL else _number(cell)


def write_csv(batch: Batch, labels: Mapping[str, Sequence[Scalar]] | None = None) -> bytes:
    """All rows of `batch` below their names; see `flat_columns` for `labels`."""
    columns = flat_columns(batch, labels)
    out = io.StringIO(newline="")
    writer = csv.writer(out)  # CRLF at the end of lines, so that CR and LF in texts are quoted
    writer.writerow(columns)
    writer.writerows(zip(*map(_cells, columns.values()), strict=True))
    return out.getvalue().encode()


def _cells(column: Array) -> Iterator[object]:
    """What csv writes as it should be: floats as their shortest text, None as nothing."""
    values = column.tolist()
    if column.dtype.kind == "f":
        return (None if value != value else value for value in values)  # noqa: PLR0124 - NaN
    if column.dtype.kind in "iu":
        return iter(values)
    return (str(value).lower() if isinstance(value, bool) else value for value in values)
