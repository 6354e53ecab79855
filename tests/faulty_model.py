"""A model in code that fails while its fault (a file) exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foretell import Field, Signature
from foretell.core.field import Datatype


class Faulty:
    signature = Signature(
        (Field("x", Datatype.FP64), Field("y", Datatype.FP64)),
        (Field("prediction", Datatype.INT64),),
        example=(1.0, 2.5),
    )

    def load(self, folder: Path) -> None:
        told = next(path for path in folder.rglob("*") if path.name == "place.txt")
        self.fault = Path(told.read_text())

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        if self.fault.exists():
            raise RuntimeError("the fault is there")
        return (columns["x"] < columns["y"]).astype(np.int64)
