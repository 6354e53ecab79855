"""Expansion is what an Arrow or Parquet body grows to when it is read: known before it is read.

A few bytes can stand for gigabytes: compressed buffers and pages, counts that nothing backs,
values that repeat. Rules:

1. The sizes and counts in the body itself are added up, without unpacking anything: those of
   an Arrow message's buffers, those in the header of every Parquet page.
2. Whoever reads them holds to them, or fails: pyarrow unpacks into memory of the size told.

Formats: Arrow's Message.fbs as flatbuffers, Parquet's PageHeader in Thrift's compact protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from foretell.errors import InvalidInput, TooLarge

_DELTA_BYTE_ARRAY = 7  # each text repeats as much of the last one as it likes
_MOST_PAGES = 100_000
_DEEPEST = 8
_HEADER = 2  # the field of a Message that holds its record batch


class Unreadable(Exception):
    """The bytes are not of their format."""


class Bytes:
    """How many bytes a body may grow to, and how many of them are taken."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def take(self, size: int) -> None:
        """`size` more of them. Raises TooLarge, and Unreadable for a size below zero."""
        if size < 0:
            raise Unreadable(f"a size of {size}")
        self._left -= size
        if self._left < 0:
            raise TooLarge(
                f"the body unpacks to more than {self._most} bytes; send fewer rows, "
                "or raise the server's max_body_bytes"
            )


class Records(NamedTuple):
    """What the metadata of an Arrow message tells: rows, and where its buffers begin and end."""

    n_rows: int
    buffers: list[tuple[int, int]]
    compressed: bool


def records_of(message: bytes, *, dictionary: bool) -> Records:
    """What the metadata of a record batch, or of a dictionary, tells. Raises Unreadable.

    pyarrow verified it as a flatbuffer before.
    """
    try:
        root = _table(message, _follow(message, 0))
        batch = _table(message, _follow(message, root(_HEADER)))
        if dictionary:
            batch = _table(message, _follow(message, batch(1)))
        (n_rows,) = struct.unpack_from("<q", message, batch(0)) if batch(0) else (0,)
        buffers = []
        if batch(2):
            start = _follow(message, batch(2))
            (count,) = struct.unpack_from("<I", message, start)
            told = np.frombuffer(message, "<i8", 2 * count, start + 4).reshape(-1, 2).tolist()
            buffers = [(offset, offset + length) for offset, length in told]
        return Records(n_rows, buffers, bool(batch(3)))
    except (struct.error, ValueError) as error:
        raise Unreadable(f"a message of unreadable form: {error}") from None


def _follow(message: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", message, place)[0])


def _table(message: bytes, start: int) -> Callable[[int], int]:
    """Where the fields of the table at `start` are, by number; 0 for one that is not set."""
    layout = start - struct.unpack_from("<i", message, start)[0]
    (size,) = struct.unpack_from("<H", message, layout)

    def field(number: int) -> int:
        entry = 4 + 2 * number
        if entry >= size:
            return 0
        (offset,) = struct.unpack_from("<H", message, layout + entry)
        return start + int(offset) if offset else 0

    return field


def unpacked_size(records: Records, body: memoryview) -> int:
    """What the compressed buffers of a message grow to, as each says in its first 8 bytes."""
    total = 0
    for start, stop in records.buffers if records.compressed else ():
        if stop - start >= 8:
            if not 0 <= start <= stop <= len(body):
                raise Unreadable("a buffer outside of its message")
            (size,) = struct.unpack_from("<q", body, start)
            total += stop - start if size == -1 else size
            if size < -1:
                raise Unreadable(f"a buffer of {size} bytes")
    return total


class Chunk(NamedTuple):
    """A Parquet column chunk: where it is in the body, and how many values it may have."""

    name: str
    start: int
    stop: int
    most_values: int


def check_pages(body: bytes, chunks: list[Chunk], room: Bytes) -> None:
    """Raise TooLarge, InvalidInput or Unreadable for pages that must not be read."""
    pages = 0
    for chunk in chunks:
        if not 0 <= chunk.start <= chunk.stop <= len(body):
            raise Unreadable(f"column {chunk.name!r} outside of the body")
        at, values = chunk.start, 0
        while at < chunk.stop:
            pages += 1
            if pages > _MOST_PAGES:
                raise TooLarge(
                    f"the body has more than {_MOST_PAGES} pages; write it in larger row groups"
                )
            header, at = _page(body, at)
            room.take(header.unpacked)
            if header.encoding == _DELTA_BYTE_ARRAY:
                raise InvalidInput(
                    f"column {chunk.name!r} is delta-encoded text; write it plain or with a "
                    "dictionary",
                    field=chunk.name,
                )
            values += max(header.values, 0)
            if values > chunk.most_values:
                raise TooLarge(
                    f"column {chunk.name!r} has more than {chunk.most_values} values; "
                    "send fewer rows"
                )
            at += header.size
        if at > chunk.stop:
            raise Unreadable(f"a page of {chunk.name!r} beyond its end")


class _Page(NamedTuple):
    unpacked: int
    size: int
    values: int
    encoding: int


def _page(body: bytes, at: int) -> tuple[_Page, int]:
    """The page header at `at`, and where it ends."""
    reader = _Compact(body, at)
    told = reader.struct()
    data, newer, dictionary = (told.get(number) or {} for number in (5, 8, 7))
    if not all(isinstance(part, dict) for part in (data, newer, dictionary)):
        raise Unreadable("a page header of unreadable form")
    values = [data.get(1, 0), newer.get(1, 0)]
    encoding = data.get(2, newer.get(4, 0))
    numbers = (told.get(2), told.get(3), *values, encoding)
    if not all(type(number) is int for number in numbers):
        raise Unreadable("a page header of unreadable form")
    unpacked, size = told[2], told[3]
    if size < 0:
        raise Unreadable(f"a page of {size} bytes")
    return _Page(unpacked, size, max(values), encoding), reader.at


class _Compact:
    """A reader of Thrift's compact protocol."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self.at = at
        self._depth = 0

    def struct(self) -> dict[int, Any]:
        """The fields of a struct by number; texts are skipped."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unreadable("a header nested too deeply")
        told: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._signed()
            told[number] = self._value(kind)
        self._depth -= 1
        return told

    def _byte(self) -> int:
        try:
            byte = self._body[self.at]
        except IndexError:
            raise Unreadable("a header that does not end") from None
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
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 12:
            return self.struct()
        if kind == 3:
            return self._byte()
        if kind == 8:
            size = self._unsigned()
            self.at += size
            return None
        if kind == 7:
            self.at += 8
            return None
        raise Unreadable(f"a value of kind {kind} in a header")
