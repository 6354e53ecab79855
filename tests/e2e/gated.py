"""A model that answers only while its gate (a file) exists, and writes down the rows it had."""

import os
import time
from pathlib import Path

import numpy as np

from foretell import Field, Signature
from foretell.core.field import Datatype


class Gated:
    signature = Signature(
        (Field("x", Datatype.FP64),), (Field("prediction", Datatype.FP64),), example=(1.0,)
    )

    def load(self, folder: Path) -> None:
        told = next(path for path in folder.rglob("*") if path.name == "place.txt")
        place = Path(told.read_text())
        self.gate, self.seen = place / "gate", place / "seen"

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        x = columns["x"]
        with self.seen.open("a") as file:
            file.write("".join(f"{value:g}\n" for value in x))
        while not self.gate.exists():
            time.sleep(0.002)
        if (x == -2).any():
            os._exit(7)
        if (x == -3).any():
            raise ValueError("a secret that stays in the log")
        return x * 2
