"""A key is the name of one row's answer: a digest of who answers, and of the row's bytes.

Rules:

1. Who answers is all that `model.json` says, the artifacts' digests among it, and the release of
   Foretell. Another model, another version, another build of one never share a key.
2. A row's bytes are its accepted values in the order of the signature, whichever door they came
   through and in whatever order. Numbers are compared as the signature has them: 1 and 1.0 are
   the same in one field.
3. Floating-point numbers are eight bytes, in narrower fields, too: two that round to the same
   32 bits have two keys, since a model might see the difference. So have 0.0 and -0.0, which
   division tells apart. All NaNs are one, and are what `null` is in a field of numbers.
4. Texts are UTF-8 behind their lengths: ("ab", "c") is not ("a", "bc"). A missing text is not an
   empty one. Arrays of a free size have their sizes before them.
5. All outputs of a row are kept, whichever are asked for: what a request asks to see is not in
   the key.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from foretell.core.batch import Batch, Row
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import Manifest

SIZE = 32
_FORM = b"foretell-row-1"
_SIZES = struct.Struct("<I")
_MISSING = -1
_NAN = math.nan


def identity(manifest: Manifest) -> bytes:
    """The digest of who answers: 32 bytes."""
    told = "\0".join((version("foretell"), manifest.to_text()))
    return hashlib.blake2b(told.encode(), digest_size=SIZE, person=_FORM).digest()


class Keys:
    """The keys of the rows of `fields`, as the package with this `identity` answers them."""

    def __init__(self, identity: bytes, fields: Sequence[Field]) -> None:
        self._begun = hashlib.blake2b(identity, digest_size=SIZE)
        self.row_bytes = _row_bytes(fields)

    def one(self, row: Row) -> bytes:
        """The key of one accepted row."""
        digest = self._begun.copy()
        digest.update(self.row_bytes(row))
        return digest.digest()

    def of(self, batch: Batch) -> list[bytes]:
        """The keys of all rows of a batch, which stays in the form it has."""
        rows = batch.plain_rows()
        return [self.one(rows[0])] if len(rows) == 1 else [self.one(row) for row in rows]


def _row_bytes(fields: Sequence[Field]) -> Callable[[Row], bytes]:
    """What writes the bytes of a row: all that has a fixed size first, then the rest."""
    pack = struct.Struct("<" + "".join(map(_code, fields))).pack
    if not any(field.shape or field.nullable or _is_text(field) for field in fields):
        return lambda row: pack(*row)
    writers = [_writer(field) for field in fields]

    def row_bytes(row: Row) -> bytes:
        head: list[Any] = []
        rest: list[bytes] = []
        for write, value in zip(writers, row, strict=True):
            if write is None:
                head.append(value)
            else:
                head.append(write(value, rest))
        return b"".join((pack(*head), *rest))

    return row_bytes


def _is_text(field: Field) -> bool:
    return field.datatype is Datatype.BYTES


def _code(field: Field) -> str:
    """How struct packs what a field has in the head of a row."""
    if field.shape or _is_text(field):
        return "q"  # a length
    if field.datatype.is_float:
        return "d"
    if field.datatype is Datatype.UINT64:
        return "Q"
    return "q" if field.datatype.is_integer else "b"


Writer = Callable[[Any, list[bytes]], Any]
"""What stands in the head for a value; the rest of its bytes is added to a list."""


def _writer(field: Field) -> Writer | None:
    if field.shape:
        return _write_texts if _is_boxed(field) else _array_writer(field.datatype.numpy)
    if _is_text(field):
        return _write_text
    if not field.nullable:
        return None
    return _write_number if field.datatype.is_float else _write_flag


def _is_boxed(field: Field) -> bool:
    return _is_text(field) or (field.datatype is Datatype.BOOL and field.nullable)


def _write_number(value: float | None, _: list[bytes]) -> float:
    return _NAN if value is None or value != value else value  # noqa: PLR0124 - NaN alone differs


def _write_flag(value: bool | None, _: list[bytes]) -> int:
    return _MISSING if value is None else value


def _write_text(value: str | None, rest: list[bytes]) -> int:
    if value is None:
        return _MISSING
    text = value.encode("utf-8", "surrogatepass")
    rest.append(text)
    return len(text)


def _write_texts(value: Any, rest: list[bytes]) -> int:
    """An array of texts, or of booleans that may be missing."""
    array = np.asarray(value, dtype=object)
    rest.append(_sizes(array.shape))
    for part in array.ravel().tolist():
        texts: list[bytes] = []
        is_text = isinstance(part, str)
        told = _write_text(part, texts) if is_text or part is None else int(part)
        rest += (b"t" if is_text else b"f", struct.pack("<q", told), *texts)
    return array.size


def _array_writer(dtype: np.dtype[Any]) -> Writer:
    little, is_float = dtype.newbyteorder("<"), dtype.kind == "f"

    def write(value: Any, rest: list[bytes]) -> int:
        array = np.asarray(value, dtype=little)
        if is_float and (missing := np.isnan(array)).any():
            array = np.where(missing, little.type(_NAN), array)
        rest += (_sizes(array.shape), array.tobytes())
        return array.size

    return write


def _sizes(shape: tuple[int, ...]) -> bytes:
    return b"".join(map(_SIZES.pack, shape))
