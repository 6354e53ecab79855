"""A model in code that takes as many seconds as its first input says."""

from __future__ import annotations

import time

import numpy as np

from foretell import Field, Signature
from foretell.core.datatype import Datatype


class Sleeping:
    signature = Signature(
        (Field("seconds", Datatype.FP64, minimum=0, maximum=60), Field("y", Datatype.FP64)),
        (Field("prediction", Datatype.INT64),),
        example=(0.0, 2.5),
    )

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        time.sleep(columns["seconds"].max())
        return (columns["y"] > 2).astype(np.int64)
