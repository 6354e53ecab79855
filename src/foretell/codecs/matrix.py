"""A matrix is all inputs of a model at once: floats of one datatype, or numbers of several."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foretell.core.field import Array
from foretell.core.signature import Signature


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

    `whole` are the places of integers; missing values go where `nullable` is true.
    """

    low: Array
    high: Array
    whole: Array
    nullable: Array
    dtypes: tuple[np.dtype[Any], ...]

    @classmethod
    def of(cls, signature: Signature) -> Columns | None:
        """Those of a signature; None when its fields are to be asked one by one."""
        inputs = signature.inputs
        for field in inputs:
            gaps = field.nullable and not field.datatype.is_float
            if not field.datatype.is_numeric or field.shape or field.closed or gaps:
                return None
        high = np.array([float(field.bounds[1]) for field in inputs])
        beyond = [float(field.bounds[1]) > field.bounds[1] for field in inputs]  # as of INT64
        return cls(
            np.array([float(field.bounds[0]) for field in inputs]),
            np.where(beyond, np.nextafter(high, 0), high),
            np.flatnonzero([field.datatype.is_integer for field in inputs]),
            np.array([field.nullable for field in inputs]),
            tuple(field.datatype.numpy for field in inputs),
        )

    def accepted(self, matrix: Array) -> list[Array] | None:
        """The columns in the signature's dtypes; None when the fields must say what is wrong."""
        with np.errstate(invalid="ignore"):
            good = (matrix >= self.low) & (matrix <= self.high)
        if not good.all():
            good |= self.nullable & np.isnan(matrix)
            if not good.all():
                return None
        if self.whole.size:
            numbers = matrix[:, self.whole]
            if not (numbers == np.floor(numbers)).all():
                return None
        return [matrix[:, at].astype(dtype) for at, dtype in enumerate(self.dtypes)]
