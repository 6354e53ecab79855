"""The overhead of a message is what parsing makes of it beside its bytes, weighed beforehand.

An empty message within another one has two bytes, and up to a hundred when parsed: without a
bound, 64 MiB become 3 GB, and gzip packs those into 65 KB.

Rules:

1. Only what may be repeated weighs: messages, texts, numbers that are shorter than in memory.
2. Each field weighs something, known or not, so that looking at a message takes bounded time.
3. What is malformed is not judged here: parsing refuses it, having made no more than was weighed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from foretell.errors import TooLarge

LOOKED_AT_BYTES = 2**16
"""Shorter messages are parsed unseen: they become a few megabytes at most."""

# Bytes: no less than was measured with protobuf 6.33, whose arrays double and leave the smaller
# ones behind (up to 88 for a message, 16 for a text and for a number).
_FIELD = 64
_TEXT = 64
_MESSAGE = 128
_NUMBER = 16
_PAUSE = 2**20
_PIECE = 2**20  # of packed numbers, which may be all of a message
_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
_CONTINUED = bytes(range(128, 256))
_TEXTS = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
_VARINTS = {
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT32,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_ENUM,
}


class _Field(NamedTuple):
    """What one field with a length weighs, and what is in it."""

    weight: int
    within: Descriptor | None = None
    varints: bool = False


_OTHER = _Field(_FIELD)


@functools.cache
def _fields(of: Descriptor) -> dict[int, _Field]:
    """The fields that weigh more than others, by the tag they have with a length."""
    found = {}
    for field in of.fields:
        tag = field.number << 3 | _LENGTH
        if field.message_type is not None:
            weight = _MESSAGE if field.is_repeated else _FIELD
            inner = field.message_type
            found[tag] = _Field(weight, inner if _fields(inner) else None)
        elif field.is_repeated and field.type in _TEXTS:
            found[tag] = _Field(_TEXT)
        elif field.is_repeated and field.type in _VARINTS:
            found[tag] = _Field(_FIELD, varints=True)
    return found


async def weigh(payload: bytes, request: Any, most: int) -> None:
    """Raise TooLarge for a message of the class `request` whose overhead is more than `most` bytes.

    Meanwhile, others are answered.
    """
    for _ in weighed(payload, request, most):
        await asyncio.sleep(0)


def weighed(payload: bytes, request: Any, most: int) -> Iterator[None]:
    """The same, which may pause whenever this yields."""
    left = most
    levels = [(_fields(request.DESCRIPTOR), len(payload))]
    at, pause = 0, most - _PAUSE
    try:
        while levels:
            fields, end = levels.pop()
            while at < end:
                tag = payload[at]
                at += 1
                if tag > 127:
                    tag, at = _varint(payload, at - 1)
                kind = tag & 7
                if kind == _LENGTH:
                    size = payload[at]
                    at += 1
                    if size > 127:
                        size, at = _varint(payload, at - 1)
                    field = fields.get(tag, _OTHER)
                    left -= field[0]
                    if size > end - at:
                        return
                    if field.within is not None:
                        levels.append((fields, end))
                        fields, end = _fields(field.within), at + size
                    else:
                        stop = at + size
                        while field.varints and at < stop and left >= 0:
                            left -= _NUMBER * _count(payload[at : min(at + _PIECE, stop)])
                            at += _PIECE
                        at = stop
                else:
                    left -= _FIELD
                    at = _varint(payload, at)[1] if kind == _VARINT else at + _FIXED.get(kind, 0)
                if left < pause:
                    if left < 0:
                        raise _too_many(payload, most)
                    pause = left - _PAUSE
                    yield
    except IndexError:
        return


def _count(packed: bytes) -> int:
    """How many numbers there are: the last byte of each is below 128."""
    return len(packed.translate(None, _CONTINUED))


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """The number at this place, and where it ends. Raises IndexError."""
    number = shift = 0
    while (byte := payload[at]) > 127:
        number |= (byte & 127) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1


def _too_many(payload: bytes, most: int) -> TooLarge:
    return TooLarge(
        f"a message of {len(payload)} bytes has so many parts that more than {most} bytes "
        "would be needed to hold them; send fewer rows, or raw tensors"
    )
