"""Expansion is what an Arrow body grows to when it is read: known before it is read.

A few bytes can stand for gigabytes. The sizes that the body itself tells are added up without
unpacking anything; pyarrow holds to them, or fails: it unpacks into memory of the size told.

Format: Arrow's Message.fbs, as flatbuffers. Parquet is in `parquet_layout`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from foretell.errors import TooLarge

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
    """What the buffers of a message grow to: compressed ones say it in their first 8 bytes.

    Others are counted as they are: several of them may be the same bytes.
    """
    total = 0
    for start, stop in records.buffers:
        if not records.compressed:
            total += max(0, stop - start)
        elif stop - start >= 8:
            if not 0 <= start <= stop <= len(body):
                raise Unreadable("a buffer outside of its message")
            (size,) = struct.unpack_from("<q", body, start)
            total += stop - start if size == -1 else size
            if size < -1:
                raise Unreadable(f"a buffer of {size} bytes")
    return total
