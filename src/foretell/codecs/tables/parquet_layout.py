"""The layout of a Parquet file: what its footer and the headers of its pages tell.

It is read here, before pyarrow sees the file, because some files must not be read. Rules:

1. A few bytes can stand for gigabytes: compressed pages, levels that repeat, texts that share
   their beginnings. Sizes and counts in the page headers are added up, without unpacking.
2. pyarrow is asked nothing about its metadata: it ends the process on some that is malformed.

Format: parquet.thrift in Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from foretell.codecs.tables.expansion import Bytes, Unreadable
from foretell.errors import InvalidInput, TooLarge

_MAGIC = b"PAR1"
_BYTE_ARRAY = 6
_DELTA_BYTE_ARRAY = 7  # each text repeats as much of the last one as it likes
_MOST_FOOTER_BYTES = 2 * 2**20
_MOST_PAGES = 20_000
_DEEPEST = 12


class Chunk(NamedTuple):
    """A column of a row group: its path in the schema, and where it is in the file."""

    path: tuple[str, ...]
    is_text: bool
    start: int
    stop: int


class Layout(NamedTuple):
    """How many rows there are, and the column chunks of all row groups."""

    n_rows: int
    chunks: list[Chunk]


def layout_of(body: bytes) -> Layout:
    """What the footer tells. Raises Unreadable, TooLarge."""
    if len(body) < 12 or body[:4] != _MAGIC or body[-4:] != _MAGIC:
        raise Unreadable("it does not begin and end as a Parquet file does")
    size = int.from_bytes(body[-8:-4], "little")
    if size > len(body) - 12:
        raise Unreadable("its footer is larger than itself")
    if size > _MOST_FOOTER_BYTES:
        raise TooLarge(
            f"the footer of the Parquet file is larger than {_MOST_FOOTER_BYTES} bytes; "
            "write it in larger row groups"
        )
    footer = Compact(body, len(body) - 8 - size).struct()
    groups = _list(footer, 4)
    n_rows = sum(_whole(group, 3) for group in groups)
    if any(_whole(group, 3) < 0 for group in groups) or _whole(footer, 3) != n_rows:
        raise Unreadable("its row groups have other numbers of rows than it tells")
    return Layout(n_rows, [_chunk(told) for group in groups for told in _list(group, 1)])


def _chunk(told: object) -> Chunk:
    column = _struct(told, 3)
    path = [part for part in _list(column, 3) if isinstance(part, bytes)]
    if not path:
        raise Unreadable("a column without a name")
    data, dictionary = _whole(column, 9), _whole(column, 11, 0)
    start = dictionary if 0 < dictionary < data else data
    stop = start + _whole(column, 7)
    return Chunk(tuple(map(_text, path)), _whole(column, 1) == _BYTE_ARRAY, start, stop)


def check_pages(body: bytes, layout: Layout, most_values: Mapping[str, int], room: Bytes) -> None:
    """Raise TooLarge, InvalidInput or Unreadable for pages that must not be read.

    `most_values` are how many a column may have, in all its row groups together.
    """
    left = dict(most_values)
    pages = 0
    for chunk in layout.chunks:
        name = chunk.path[0]
        if name not in left or not 0 <= chunk.start <= chunk.stop <= len(body):
            raise Unreadable(f"column {name!r} is not where it is told to be")
        for page in _pages(body, chunk):
            pages += 1
            if pages > _MOST_PAGES:
                raise TooLarge(
                    f"the body has more than {_MOST_PAGES} pages; write it in larger row groups"
                )
            room.take(page.unpacked)
            if page.encoding == _DELTA_BYTE_ARRAY:
                raise InvalidInput(
                    f"column {name!r} is delta-encoded text; write it plain or with a dictionary",
                    field=name,
                )
            left[name] -= page.values
            if left[name] < 0:
                raise TooLarge(
                    f"column {name!r} has more than {most_values[name]} values; send fewer rows"
                )


class _Page(NamedTuple):
    unpacked: int
    values: int
    encoding: int


def _pages(body: bytes, chunk: Chunk) -> Iterator[_Page]:
    at = chunk.start
    while at < chunk.stop:
        reader = Compact(body, at)
        told = reader.struct()
        size = _whole(told, 3)
        if size < 0:
            raise Unreadable(f"a page of {size} bytes")
        data, newer = _struct(told, 5), _struct(told, 8)
        values = max(_whole(data, 1, 0), _whole(newer, 1, 0))
        encodings = (_whole(data, 2, 0), _whole(newer, 4, 0))
        yield _Page(_whole(told, 2), values, max(encodings, key=_DELTA_BYTE_ARRAY.__eq__))
        at = reader.at + size
    if at > chunk.stop:
        raise Unreadable(f"a page of {chunk.path[0]!r} does not end where its column does")


def _struct(told: object, number: int) -> dict[int, Any]:
    part = told.get(number, {}) if isinstance(told, dict) else None
    if not isinstance(part, dict):
        raise Unreadable("metadata of unreadable form")
    return part


def _list(told: object, number: int) -> list[Any]:
    part = told.get(number, []) if isinstance(told, dict) else None
    if not isinstance(part, list):
        raise Unreadable("metadata of unreadable form")
    return part


def _whole(told: object, number: int, default: int | None = None) -> int:
    part = told.get(number, default) if isinstance(told, dict) else None
    if type(part) is not int:
        raise Unreadable("metadata of unreadable form")
    return part


def _text(told: bytes) -> str:
    try:
        return told.decode()
    except UnicodeDecodeError:
        raise Unreadable("a name that is not UTF-8") from None


class Compact:
    """A reader of Thrift's compact protocol, from `at` on."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self.at = at
        self._depth = 0

    def struct(self) -> dict[int, Any]:
        """The fields of a struct by number. Raises Unreadable."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unreadable("metadata nested too deeply")
        told: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._signed()
            told[number] = kind == 1 if kind in (1, 2) else self._value(kind)
        self._depth -= 1
        return told

    def _byte(self) -> int:
        try:
            byte = self._body[self.at]
        except IndexError:
            raise Unreadable("metadata that does not end") from None
        self.at += 1
        return byte

    def _unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
            if shift > 63:
                raise Unreadable("a number of too many bytes")

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)

    def _value(self, kind: int) -> Any:
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 12:
            return self.struct()
        if kind in (9, 10):
            return self._elements()
        if kind in (1, 2, 3):  # booleans have a byte of their own in lists only
            return self._byte()
        if kind in (7, 8):
            size = 8 if kind == 7 else self._unsigned()
            start = self.at
            self.at += size
            if self.at > len(self._body):
                raise Unreadable("metadata that does not end")
            return self._body[start : self.at]
        raise Unreadable(f"metadata of kind {kind}")

    def _elements(self) -> list[Any]:
        head = self._byte()
        count, kind = head >> 4, head & 15
        if count == 15:
            count = self._unsigned()
        if count > len(self._body) - self.at:  # each takes a byte at least
            raise Unreadable("a list longer than the body")
        return [self._value(kind) for _ in range(count)]
