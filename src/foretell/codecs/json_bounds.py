"""The bounds of a JSON body: no more arrays, objects and values than so many rows can have.

Rules:

1. A body is looked through before it is decoded: an empty array has three bytes with its comma,
   and more than sixty when decoded, so that 64 MiB of them would become 1.5 GB.
2. What stands in texts does not count.
3. An input whose length is free may have any number of values, but not of arrays.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate
from operator import mul

from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import TooLarge

LOOKED_AT_BYTES = 2**18
"""Shorter bodies are decoded unseen: they become a few megabytes at most."""

_AROUND = 10_000  # what a body may have besides rows: parameters, names of columns
_ARRAYS_A_ROW = 8  # or as many as its shapes have: of tensors, each value may be in an array
_FREE_SIZE = 64
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)', re.DOTALL)


class JsonBounds:
    """The bounds for bodies of one signature."""

    def __init__(self, signature: Signature) -> None:
        inputs = signature.inputs
        self._arrays = max(_ARRAYS_A_ROW, 1 + sum(map(_arrays_of, inputs)))
        free = any(-1 in field.shape for field in inputs)
        values = sum(math.prod(field.shape) for field in inputs)
        self._values = math.inf if free else values + 2

    def check(self, body: bytes, *, max_rows: int) -> None:
        """Raise TooLarge when more is in the body than `max_rows` rows can have."""
        if len(body) < LOOKED_AT_BYTES:
            return
        arrays = max_rows * self._arrays + _AROUND
        commas = max_rows * self._values + _AROUND
        if _is_within(body, arrays, commas):
            return
        # Perhaps it is all in texts: piece by piece, so that others have their turn meanwhile.
        at = 0
        for text in _TEXT.finditer(body):
            piece = body[at : text.start()]
            at = text.end()
            arrays -= _arrays_in(piece)
            commas -= piece.count(b",")
            if arrays < 0 or commas < 0:
                raise _too_many(max_rows)
        if not _is_within(body[at:], arrays, commas):
            raise _too_many(max_rows)


def _is_within(text: bytes, arrays: float, commas: float) -> bool:
    return _arrays_in(text) <= arrays and text.count(b",") <= commas


def _arrays_in(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _arrays_of(field: Field) -> int:
    """How many arrays one value of `field` is made of."""
    sizes = [_FREE_SIZE if size < 0 else size for size in field.shape[:-1]]
    return sum(accumulate(sizes, mul, initial=1)) if field.shape else 0


def _too_many(max_rows: int) -> TooLarge:
    return TooLarge(
        f"the body has more arrays, objects or values than {max_rows} rows can have, which is the "
        "limit for one request; send fewer, and the data of tensors as flat arrays"
    )
