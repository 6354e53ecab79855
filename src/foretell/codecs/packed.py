"""Packed rows are the prediction service's messages as bytes, read and written where they lie.

Rules:

1. All clients write a row as one field of packed 32-bit numbers: a head that depends on their
   number alone, then the numbers (protobuf's "Encoding"). Whatever lies otherwise, which protobuf
   allows, is not read here.
2. What is written here is what protobuf would write, byte for byte.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from foretell.core.field import Array

_LENGTH_FOLLOWS = 2  # the wire type of bytes
_BYTES = 4  # of a number
_NUMBER = np.dtype("<f4")
_FEW_FIELDS = 256
_TAGS = bytes(number << 3 | _LENGTH_FOLLOWS for number in range(1, 16))  # of one byte
_HEAD = re.compile(rb"([%b])([\x80-\xff]{0,4}[\x00-\x7f])" % re.escape(_TAGS))


class PackedRows:
    """Rows of `n_values` numbers, each behind `head`."""

    def __init__(self, n_values: int, head: bytes) -> None:
        self._head = head
        self._size = len(head) + n_values * _BYTES
        self._one = struct.Struct(f"<{len(head)}x{n_values}f")
        self._each = struct.Struct(f"<{len(head)}s{n_values}f")
        self._written = np.void(head)
        self._line = np.dtype([("head", f"V{len(head)}"), ("numbers", _NUMBER, (n_values,))])

    def read_one(self, payload: bytes) -> tuple[float, ...] | None:
        """The numbers of the only row; None when they lie otherwise."""
        if len(payload) == self._size and payload.startswith(self._head):
            return self._one.unpack(payload)
        return None

    def read_few(self, payload: bytes) -> list[tuple[float, ...]] | None:
        """The rows; None when they lie otherwise."""
        if len(payload) % self._size:
            return None
        rows = []
        for head, *row in self._each.iter_unpack(payload):
            if head != self._head:
                return None
            rows.append(tuple(row))
        return rows

    def read_many(self, payload: bytes) -> Array | None:
        """The rows as a float32 array of shape (n, n_values); None when they lie otherwise."""
        if len(payload) % self._size:
            return None
        lines = np.frombuffer(payload, self._line)
        if lines["head"].tobytes() != self._head * len(lines):
            return None
        return np.ascontiguousarray(lines["numbers"])

    def count(self, payload: bytes) -> int:
        """How many rows there are, if they lie so."""
        return len(payload) // self._size

    def write_one(self, numbers: Sequence[float]) -> bytes:
        """One row. Raises OverflowError for a number beyond 32 bits."""
        return self._each.pack(self._head, *numbers)

    def write_many(self, numbers: Array) -> bytes:
        """The rows of an array of shape (n, n_values). Raises OverflowError like `write_one`."""
        lines = np.empty(len(numbers), self._line)
        lines["head"] = self._written
        try:
            with np.errstate(over="raise"):
                lines["numbers"] = numbers
        except FloatingPointError as error:
            raise OverflowError(str(error)) from None
        return lines.tobytes()


def take_field(payload: bytes, number: int) -> tuple[bytes, list[memoryview]] | None:
    """What is not field `number` of a message, and the contents of that field, where they lie.

    None when there are more than a few fields, or a head of one that protobuf is to judge.
    """
    view, end = memoryview(payload), len(payload)
    rest: list[memoryview] = []
    found: list[memoryview] = []
    at = 0
    for _ in range(_FEW_FIELDS):
        if at == end:
            return b"".join(rest), found
        head = _HEAD.match(payload, at)
        if head is None:
            return None
        size = 0
        for digit in reversed(head[2]):
            size = size << 7 | digit & 127
        begin, stop = head.end(), head.end() + size
        if stop > end:
            return None
        if head[1][0] >> 3 == number:
            found.append(view[begin:stop])
        else:
            rest.append(view[at:stop])
        at = stop
    return None


def packed_head(number: int, n_values: int) -> bytes:
    """What stands before a field of `n_values` packed numbers."""
    return tag(number) + varint(n_values * _BYTES)


def wrapped_head(number: int, head: bytes, n_values: int) -> bytes:
    """What stands before a message that is such a field alone, itself a field."""
    return tag(number) + varint(len(head) + n_values * _BYTES) + head


def tag(number: int) -> bytes:
    """What stands before field `number`, of which the length follows."""
    return varint(number << 3 | _LENGTH_FOLLOWS)


def varint(number: int) -> bytes:
    """A whole number from 0 up, as protobuf writes it."""
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def field_number(message: Any, name: str) -> int:
    """The number of the field called `name`."""
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number
