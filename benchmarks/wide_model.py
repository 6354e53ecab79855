"""A linear model of twenty numbers: next to nothing, so that what is measured is what is around."""

import numpy as np

from foretell import Field, Signature
from foretell.core.datatype import Datatype

COLUMNS = tuple(f"x{number}" for number in range(20))


class Wide:
    """Answers a class and two probabilities."""

    signature = Signature(
        tuple(Field(name, Datatype.FP64) for name in COLUMNS),
        (
            Field("prediction", Datatype.INT64),
            Field("probability", Datatype.FP64, shape=(2,)),
        ),
        class_labels=(0, 1),
        example=(0.0,) * len(COLUMNS),
    )

    def predict(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        share = 1 / (1 + np.exp(-sum(columns.values())))
        return {
            "prediction": (share > 0.5).astype(int),
            "probability": np.column_stack([1 - share, share]),
        }
