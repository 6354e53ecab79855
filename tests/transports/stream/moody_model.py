"""A model in code that fails on rows whose x is 13, and ends its process on those with -666."""

from __future__ import annotations

import os

import numpy as np

from foretell import Field, Signature
from foretell.core.datatype import Datatype


class Moody:
    signature = Signature(
        (Field("x", Datatype.FP64), Field("y", Datatype.FP64)),
        (Field("prediction", Datatype.INT64),),
        example=(1.0, 2.5),
    )

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        if (columns["x"] == -666).any():
            os._exit(9)
        if (columns["x"] == 13).any():
            raise RuntimeError("unlucky")
        return (columns["x"] < columns["y"]).astype(np.int64)
