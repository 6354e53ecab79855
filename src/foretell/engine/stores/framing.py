"""A frame is a value as it lies in Redis: it shows whether it is whole, ours, and of its key.

`<version: 1 byte><CRC-32: 4><length: 4><end: 8><value>`, little-endian. The checksum covers the
key, too: a value that was written under another key, or came in reply to another question, is
none. `end` is when its life ends, in seconds since 1970; 0 when it does not.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

_VERSION = 1
_HEAD = struct.Struct("<BIId")
_CHECKED = 5  # what stands before that is not under the checksum


class Framed(NamedTuple):
    """A value, and when its life ends."""

    value: bytes
    end: float


def framed(key: bytes, value: bytes, end: float) -> bytes:
    """The frame of `value` under `key`."""
    checked = _HEAD.pack(_VERSION, 0, len(value), end)[_CHECKED:] + value
    return b"%c%b%b" % (_VERSION, _checksum(key, checked).to_bytes(4, "little"), checked)


def unframed(key: bytes, frame: object) -> Framed | None:
    """The value in a frame of `key`; None when it is anything else."""
    if not isinstance(frame, bytes) or len(frame) < _HEAD.size:
        return None
    version, checksum, length, end = _HEAD.unpack_from(frame)
    if version != _VERSION or length != len(frame) - _HEAD.size:
        return None
    if checksum != _checksum(key, frame[_CHECKED:]):
        return None
    return Framed(frame[_HEAD.size :], end)


def _checksum(key: bytes, checked: bytes) -> int:
    return zlib.crc32(checked, zlib.crc32(key))
