"""Predictions are a server's answer to some rows: arrays by output, and who gave them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foretell.core.field import Array
from foretell.errors import MissingExtra


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The outputs of one call, each an array of n entries for n rows, in their order.

    They are the arrays that `foretell.load(...).predict` gives for the same rows.
    """

    model: str
    version: str
    outputs: Mapping[str, Array]

    @property
    def predictions(self) -> Array:
        """The output called `prediction`, or the only one. Raises KeyError when there is none."""
        if "prediction" in self.outputs:
            return self.outputs["prediction"]
        if len(self.outputs) == 1:
            return next(iter(self.outputs.values()))
        raise KeyError(
            f"{self.model} {self.version} has several outputs, none of them called 'prediction'; "
            f"take .outputs[...] of {', '.join(self.outputs)}"
        )

    @property
    def probabilities(self) -> Array | None:
        """The output called `probability`: (n, classes); None when the model gives none."""
        return self.outputs.get("probability")

    def to_pandas(self) -> Any:
        """A DataFrame; an output of k values a row becomes k columns, `name_0` and on."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("to_pandas needs pandas; install it with: pip install pandas") from (
                error
            )
        columns: dict[str, Array] = {}
        for name, values in self.outputs.items():
            if values.ndim == 1:
                columns[name] = values
                continue
            flat = values.reshape(len(values), -1)
            columns |= {f"{name}_{place}": flat[:, place] for place in range(flat.shape[1])}
        return pd.DataFrame(columns)

    def to_arrow(self) -> Any:
        """An Arrow table; an output of k values a row becomes one column of lists."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingExtra(
                "to_arrow needs pyarrow; install it with: pip install pyarrow"
            ) from error
        columns = {}
        for name, values in self.outputs.items():
            column = pa.array(values.ravel())
            for size in reversed(values.shape[1:]):
                column = pa.FixedSizeListArray.from_arrays(column, size)
            columns[name] = column
        return pa.table(columns)

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())))

    def __repr__(self) -> str:
        return f"Predictions({len(self)} rows of {self.model} {self.version}: {self.outputs!r})"
