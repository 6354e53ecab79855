"""A model in code that misbehaves when told to: what every door must survive."""

import sys
import time

import numpy as np

from foretell import Field, Signature
from foretell.core.datatype import Datatype

RAISE, EXIT, SHORT, NOT_A_NUMBER, INFINITE, TEXT = 666.0, 667.0, 668.0, 669.0, 670.0, 671.0
NESTED, COMPLEX, SLOW = 672.0, 673.0, 674.0


class Moody:
    signature = Signature(
        (Field("x", Datatype.FP64, minimum=-1e300, maximum=1e300),),
        (Field("prediction", Datatype.FP64),),
        example=(1.0,),
    )

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        x = columns["x"]
        if RAISE in x:
            raise RuntimeError("a secret that stays in the log")
        if SLOW in x:
            time.sleep(0.3)
        if EXIT in x:
            sys.exit(3)
        if SHORT in x:
            return x[:-1]
        if TEXT in x:
            return np.array(["text"] * len(x))
        if NESTED in x:
            return np.column_stack([x, x])
        if COMPLEX in x:
            return x + 1j
        return np.where(x == NOT_A_NUMBER, np.nan, np.where(x == INFINITE, np.inf, x * 2))
