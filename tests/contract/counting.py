"""A model in code whose answer tells how often it was asked: what is repeated came from a cache."""

import numpy as np

from foretell import Field, Signature
from foretell.core.datatype import Datatype


class Counting:
    signature = Signature(
        (Field("x", Datatype.FP64),),
        (Field("prediction", Datatype.INT64), Field("share", Datatype.FP64)),
        example=(1.0,),
    )

    def __init__(self) -> None:
        self.times = 1

    def predict(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = columns["x"]
        if (x < 0).any():
            raise ValueError("too small")
        self.times += bool((x > 1).any())  # what it is packed with has one answer
        return {"prediction": np.full(len(x), self.times), "share": x / self.times}
