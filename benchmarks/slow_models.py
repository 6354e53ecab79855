"""Slow models: each call takes 20 ms, for however many rows.

One waits, as a model that runs on another device does; one computes in Python, which keeps
the interpreter from everything else.
"""

import time

import numpy as np

from foretell import Field, Signature
from foretell.core.datatype import Datatype

CALL_S = 0.020


class Waiting:
    """Sleeps, then answers the double of x."""

    signature = Signature(
        (Field("x", Datatype.FP64),), (Field("prediction", Datatype.FP64),), example=(1.0,)
    )

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        time.sleep(CALL_S)
        return columns["x"] * 2


class Computing:
    """Counts for as long, then answers the double of x."""

    signature = Waiting.signature

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        until = time.thread_time() + CALL_S  # CPU time of its own: others on the core don't count
        while time.thread_time() < until:
            pass
        return columns["x"] * 2
