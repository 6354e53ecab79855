"""A datatype says what the values of a field are, in the words of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np


class Datatype(StrEnum):
    """A datatype of the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype of a column: `object` (of str) for BYTES."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return self in _INTEGERS

    @property
    def is_numeric(self) -> bool:
        return self.is_float or self.is_integer

    @property
    def limits(self) -> tuple[float, float]:
        """The least and greatest finite value of a numeric datatype."""
        return _LIMITS[self]

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> Datatype:
        """The datatype of a numpy dtype; text and objects are BYTES.

        Raises ValueError when the protocol has no such datatype.
        """
        if dtype.kind in "OUST":
            return cls.BYTES
        for datatype, known in _NUMPY.items():
            if known == dtype.newbyteorder("="):
                return datatype
        raise ValueError(f"no datatype of the Open Inference Protocol fits numpy's {dtype}")


_NUMPY = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.FP16: np.dtype(np.float16),
    Datatype.FP32: np.dtype(np.float32),
    Datatype.FP64: np.dtype(np.float64),
    Datatype.BYTES: np.dtype(np.object_),
    **{
        Datatype(f"{sign}INT{bits}"): np.dtype(f"{'u' if sign else 'i'}{bits // 8}")
        for sign in ("U", "")
        for bits in (8, 16, 32, 64)
    },
}

_FLOATS = frozenset(known for known in Datatype if known.value.startswith("FP"))
_INTEGERS = frozenset(known for known in Datatype if "INT" in known.value)


def _limits() -> Iterator[tuple[Datatype, tuple[float, float]]]:
    for known in _INTEGERS:
        whole = np.iinfo(known.numpy)
        yield known, (whole.min, whole.max)
    for known in _FLOATS:
        real = np.finfo(known.numpy)
        yield known, (float(real.min), float(real.max))


_LIMITS = dict(_limits())
