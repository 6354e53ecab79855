"""A model that answers what it was asked, in every datatype: what went in must come out."""

from typing import Any

import numpy as np

from foretell import Field, Signature
from foretell.core.datatype import Datatype

SCALARS = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
FIELDS = (
    *(Field(datatype.value.lower(), datatype) for datatype in SCALARS),
    Field("text", Datatype.BYTES),
    Field("vector", Datatype.FP32, shape=(3,)),
)


class Echo:
    signature = Signature(FIELDS, FIELDS)

    def predict(self, columns: dict[str, np.ndarray]) -> dict[str, Any]:
        return columns


class Upper:
    """One text in, one text out: what a raw request may ask."""

    signature = Signature((Field("text", Datatype.BYTES),), (Field("shout", Datatype.BYTES),))

    def predict(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"shout": np.array([text.upper() for text in columns["text"]], dtype=object)}


class Sums:
    """A dense model: one tensor [n, 4] or four columns."""

    signature = Signature(
        tuple(Field(name, Datatype.FP64) for name in "abcd"), (Field("sum", Datatype.FP64),)
    )

    def predict(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"sum": np.sum([*columns.values()], axis=0)}
