"""A matrix is all inputs of a model at once: floats of one datatype, or numbers of several."""

from __future__ import annotations

import math
from operator import le
from typing import Any, NamedTuple

import numpy as np

from foretell.core.field import Array
from foretell.core.signature import Signature

_NARROW = (np.dtype(np.float16), np.dtype(np.float32))


class Matrix(NamedTuple):
    """The rule of `Field.accept_column` for all columns of a floating-point matrix at once."""

    low: Array
    high: Array
    within: tuple[float, float]
    nullable: Array
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, signature: Signature) -> Matrix | None:
        """That of a signature; None when its fields are to be asked one by one."""
        dense, inputs = signature.dense, signature.inputs
        if dense is None or not dense.is_float or any(field.closed for field in inputs):
            return None
        low, high = zip(*(field.bounds for field in inputs), strict=True)
        nullable = np.array([field.nullable for field in inputs])
        return cls(np.array(low), np.array(high), (max(low), min(high)), nullable, dense.numpy)

    def accepted(self, matrix: Array) -> Array | None:
        """The matrix in the signature's dtype; None when the fields must say what is wrong."""
        if matrix.dtype.kind not in "iuf":
            return None
        low, high = self.within
        # NaN if there is one; what the tightest bounds allow need not be compared field by field
        if low <= matrix.min().item() and matrix.max().item() <= high:
            return matrix.astype(self.dtype, copy=False)
        with np.errstate(invalid="ignore"):
            good = (matrix >= self.low) & (matrix <= self.high)
        if not good.all():
            good |= self.nullable & np.isnan(matrix)
        return matrix.astype(self.dtype, copy=False) if good.all() else None


class Columns(NamedTuple):
    """The rule of `Field.accept_column` for a float matrix whose columns are inputs of any number.

    `whole` are the places and dtypes of integers, `narrow` those of floats of less than 64 bits;
    missing values go where `nullable` is true.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    nullable: tuple[bool, ...]
    whole: tuple[tuple[int, np.dtype[Any]], ...]
    narrow: tuple[tuple[int, np.dtype[Any]], ...]

    @classmethod
    def of(cls, signature: Signature) -> Columns | None:
        """Those of a signature; None when its fields are to be asked one by one."""
        inputs = signature.inputs
        for field in inputs:
            gaps = field.nullable and not field.datatype.is_float
            if not field.datatype.is_numeric or field.shape or field.closed or gaps:
                return None
        dtypes = [field.datatype.numpy for field in inputs]
        return cls(
            tuple(float(field.bounds[0]) for field in inputs),
            tuple(_at_most(field.bounds[1]) for field in inputs),
            tuple(field.nullable for field in inputs),
            tuple((at, dtype) for at, dtype in enumerate(dtypes) if dtype.kind in "iu"),
            tuple((at, dtype) for at, dtype in enumerate(dtypes) if dtype in _NARROW),
        )

    def accepted(self, matrix: Array) -> list[Array] | None:
        """The columns in the signature's dtypes; None when the fields must say what is wrong."""
        columns = matrix.T.astype(np.float64, order="C")
        # NaN where there is one: it compares with nothing
        least = np.minimum.reduce(columns, axis=1).tolist()
        most = np.maximum.reduce(columns, axis=1).tolist()
        if not (all(map(le, self.low, least)) and all(map(le, most, self.high))):
            for at, column in enumerate(columns):
                known = column[~np.isnan(column)] if self.nullable[at] else column
                if not ((self.low[at] <= known) & (known <= self.high[at])).all():
                    return None
        accepted = list(columns)
        for at, dtype in self.whole:
            accepted[at] = columns[at].astype(dtype)
            if not (accepted[at] == columns[at]).all():
                return None
        for at, dtype in self.narrow:
            accepted[at] = columns[at].astype(dtype)
        return accepted


def _at_most(bound: float) -> float:
    """The largest float that is no more than `bound`, which the largest INT64 is not."""
    high = float(bound)
    return math.nextafter(high, 0) if high > bound else high
