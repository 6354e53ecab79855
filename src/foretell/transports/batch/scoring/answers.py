"""Answers are the columns a job adds to its rows: what the model said, which one, and when.

Rules:

1. Outputs keep their names and datatypes. `probability` of a binary classifier is that of its
   second class as one number; `all` makes it a list, as it is of three classes and more.
2. For forms without arrays, `flat`, there is one column for each element of an array, named by
   its label where there is one: `probability_low`.
3. `model_version` and `predicted_at` (UTC) are the same in every row of a job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from foretell.codecs.tables.arrow_tables import array_of, type_of
from foretell.codecs.tables.columns import flat_names
from foretell.core.batch import Batch, Chosen, column_values
from foretell.core.field import Array, Field, Scalar
from foretell.core.signature import Signature

Probabilities = Literal["all", "positive", "none"]
VERSION, TIME = "model_version", "predicted_at"
PROBABILITY = "probability"
_CONSTANTS = (
    pa.field(VERSION, pa.dictionary(pa.int32(), pa.string())),
    pa.field(TIME, pa.timestamp("us", "UTC")),
)


_Maker = Callable[[Batch], Array | Chosen]
"""What makes one column of the outputs."""


class Answers:
    """Makes columns of outputs; `schema` is known before there are any.

    Raises InvalidInput when an output of any size is to be `flat`.
    """

    def __init__(
        self,
        signature: Signature,
        version: str,
        predicted_at: datetime,
        probabilities: Probabilities = "positive",
        *,
        flat: bool = False,
    ) -> None:
        self._version = pa.array([version])
        self._time = pa.scalar(predicted_at, _CONSTANTS[1].type)
        positive = probabilities == "positive" and is_binary(signature)
        self._makers: list[tuple[Field, _Maker]] = []
        for place, field in enumerate(signature.outputs):
            if field.name != PROBABILITY:
                self._add(field, _whole(place), flat)
            elif positive:
                self._makers.append((Field(field.name, field.datatype), _element(place, 1)))
            elif probabilities != "none":
                self._add(field, _whole(place), flat, _labels(signature))
        told = [pa.field(field.name, type_of(field)) for field, _ in self._makers]
        self.schema = pa.schema([*told, *_CONSTANTS])

    def _add(
        self,
        field: Field,
        whole: _Maker,
        flat: bool,
        labels: Sequence[Scalar] = (),
    ) -> None:
        if not flat or not field.shape:
            self._makers.append((field, whole))
            return
        (names,) = flat_names([field]).values()
        if field.shape == (len(labels),):
            names = [f"{field.name}_{label}" for label in labels]
        for element, name in enumerate(names):
            made = _flat_element(whole, element)
            self._makers.append((Field(name, field.datatype, nullable=field.nullable), made))

    def columns(self, outputs: Batch) -> list[pa.Array]:
        """The columns of `outputs`, as `schema` has them; texts may be dictionaries of those."""
        made: list[Any] = [_arrow(field, column(outputs)) for field, column in self._makers]
        n_rows = outputs.n_rows
        version = pa.DictionaryArray.from_arrays(np.zeros(n_rows, np.int32), self._version)
        return [*made, version, pa.repeat(self._time, n_rows)]


def _arrow(field: Field, column: Array | Chosen) -> Any:
    if not isinstance(column, Chosen):
        return array_of(field, column)
    choices = array_of(field, column.choices)
    return pa.DictionaryArray.from_arrays(column.places.astype(np.int32), choices)


def _whole(place: int) -> _Maker:
    return lambda outputs: outputs.chosen[place]


def _element(place: int, element: int) -> _Maker:
    return lambda outputs: column_values(outputs.chosen[place])[:, element]


def _flat_element(whole: _Maker, element: int) -> _Maker:
    return lambda outputs: column_values(whole(outputs)).reshape(outputs.n_rows, -1)[:, element]


def _labels(signature: Signature) -> tuple[Scalar, ...]:
    """The labels of one classifier's classes; several targets have none in common."""
    labels = signature.class_labels or ()
    return () if any(isinstance(label, tuple) for label in labels) else cast("Any", labels)


def is_binary(signature: Signature) -> bool:
    """Whether there is one probability for each of two classes."""
    return any(field.name == PROBABILITY and field.shape == (2,) for field in signature.outputs)
