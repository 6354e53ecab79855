"""Features are a row as `prediction.PredictionService` has it: 32-bit numbers, in order.

Rules:

1. Such messages carry numbers in and a whole number out, with its probabilities. `refusal` says
   of every other model why they can't carry it, and what can.
2. Each number goes to the input in its place; a model with one input of a fixed number of
   values takes them all. `Signature.accept_row` decides which are allowed.
3. A number has 32 bits: what the caller wrote as 0.1 is 0.10000000149011612 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from foretell.codecs import messages
from foretell.core.batch import Batch, Row
from foretell.core.field import Datatype, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

_INT32 = range(-(2**31), 2**31)
_INSTEAD = "call inference.GRPCInferenceService/ModelInfer or POST /predict"


class Features:
    """Reads and writes the messages of one signature; `refusal` is None when they can."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._fields = signature.inputs
        names = [field.name for field in signature.outputs]
        self._prediction = names.index("prediction") if "prediction" in names else -1
        self._probability = names.index("probability") if "probability" in names else None
        self._vector = len(self._fields) == 1 and len(self._fields[0].shape) == 1
        # Nearly every model: scalars, of which only some have bounds that 32 bits can break.
        self._quick = all(
            field.datatype.is_numeric and not field.shape and not field.closed
            for field in self._fields
        )
        self._bounded = [
            (place, *field.bounds, field.datatype.is_integer)
            for place, field in enumerate(self._fields)
            if self._quick and not _takes_any(field)
        ]
        self.refusal = self._why_not()
        self._one = messages.message("prediction.PredictResponse")
        self._many = messages.message("prediction.BatchPredictResponse")

    def _why_not(self) -> str | None:
        for field in self._fields:
            if not field.datatype.is_numeric or (field.shape and not self._vector):
                return (
                    f"input '{field.name}' is {field.expected}, which PredictRequest cannot "
                    f"carry; {_INSTEAD}"
                )
        if self._prediction < 0 or not self._is_whole(self.signature.outputs[self._prediction]):
            return f"PredictResponse carries whole numbers, but this model gives others; {_INSTEAD}"
        return None

    def _is_whole(self, field: Field) -> bool:
        if field.shape:
            return False
        labels = self.signature.class_labels
        if field.datatype.is_float and labels is not None:
            return all(isinstance(label, float) and label.is_integer() for label in labels)
        return field.datatype.is_integer or field.datatype is Datatype.BOOL

    def row(self, features: Sequence[float]) -> Row:
        """One accepted row. Raises InvalidInput."""
        row = tuple(features[:])  # a message's field is sliced in a third of the time
        if self._quick and len(row) == len(self._fields) and isfinite(sum(row)):
            if not self._bounded:
                return row
            values: list[Any] = list(row)
            for place, low, high, whole in self._bounded:
                value = row[place]
                if not low <= value <= high or (whole and not value.is_integer()):
                    break
                if whole:
                    values[place] = int(value)
            else:
                return tuple(values)
        return self.signature.accept_row((list(row),) if self._vector else row)

    def batch(self, instances: Sequence[Any], *, max_rows: int) -> Batch:
        """The accepted rows of a BatchPredictRequest. Raises InvalidInput, TooLarge."""
        if not instances:
            raise InvalidInput("'instances' is empty; send at least one row", field="instances")
        if len(instances) > max_rows:
            raise TooLarge(
                f"{len(instances)} rows in one request, but the limit is {max_rows}; send fewer"
            )
        rows = []
        for number, instance in enumerate(instances):
            try:
                rows.append(self.row(instance.features))
            except InvalidInput as error:
                raise error.at_row(number) from None
        return Batch.from_rows(self._fields, rows)

    def write_one(self, outputs: Batch, version: str) -> bytes:
        """The PredictResponse of one row. Raises OverflowError when it does not fit."""
        (row,) = outputs.rows
        answer = self._one(prediction=_int32(row[self._prediction]), model_version=version)
        if self._probability is not None:
            answer.probabilities.extend(_listed(row[self._probability]))
        written: bytes = answer.SerializeToString()
        return written

    def write_many(self, outputs: Batch) -> bytes:
        """The BatchPredictResponse of all rows. Raises OverflowError when they do not fit."""
        answer = self._many()
        answer.predictions.extend(map(_int32, outputs.columns[self._prediction].tolist()))
        if self._probability is not None:
            for values in outputs.columns[self._probability].tolist():
                answer.probabilities.add(values=_listed(values))
        written: bytes = answer.SerializeToString()
        return written


def _takes_any(field: Field) -> bool:
    """Whether every finite 32-bit number is allowed."""
    free = (field.minimum, field.maximum) == (None, None)
    return free and field.datatype in (Datatype.FP32, Datatype.FP64)


def _int32(value: Any) -> int:
    whole = int(value)
    if whole not in _INT32:
        raise OverflowError(
            f"the prediction is {whole}, which does not fit into 32 bits; {_INSTEAD}"
        )
    return whole


def _listed(values: Any) -> Any:
    return values if isinstance(values, list) else [values]
