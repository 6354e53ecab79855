"""Features are a row as `prediction.PredictionService` has it: 32-bit numbers, in order.

Rules:

1. Such messages carry numbers in and a whole number out, with its probabilities. `refusal` says
   of every other model why they can't carry it, and what can.
2. Each number goes to the input in its place; a model with one input of a fixed number of
   values takes them all. `Signature.accept_row` decides which are allowed.
3. A number has 32 bits: what the caller wrote as 0.1 is 0.10000000149011612 here.
4. Messages that lie as all clients write them are read without protobuf, others with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from foretell.codecs import messages
from foretell.codecs.matrix import Columns, Matrix
from foretell.codecs.packed import (
    PackedRows,
    field_number,
    packed_head,
    tag,
    varint,
    wrapped_head,
)
from foretell.core.batch import FEW_ROWS, Batch, Row
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

_INT32 = range(-(2**31), 2**31)
_MOST_KEPT = 1024
_MOST_IN_A_BYTE = 127  # of a whole number, as protobuf writes it
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
        self._matrix = Matrix.of(signature) if self._quick else None
        self._columns = Columns.of(signature) if self._matrix is None else None
        self._asked_one = messages.message("prediction.PredictRequest")
        self._asked_many = messages.message("prediction.BatchPredictRequest")
        self._one = messages.message("prediction.PredictResponse")
        self._many = messages.message("prediction.BatchPredictResponse")
        self._packed, self._packed_many = self._requests()
        self._probabilities, self._probabilities_many = self._responses()
        self._predictions_tag = tag(field_number(self._many, "predictions"))
        self._heads: dict[int, bytes] = {}
        self._tails: dict[str, bytes] = {}

    def _requests(self) -> tuple[PackedRows | None, PackedRows | None]:
        """How one row lies in its message, and how many do; None when its length may differ."""
        n_values = self._fields[0].shape[0] if self._vector else len(self._fields)
        if n_values < 0:
            return None, None
        head = packed_head(field_number(self._asked_one, "features"), n_values)
        wrapped = wrapped_head(field_number(self._asked_many, "instances"), head, n_values)
        return PackedRows(n_values, head), PackedRows(n_values, wrapped)

    def _responses(self) -> tuple[PackedRows | None, PackedRows | None]:
        """How a row's probabilities lie in the response; None when their number may differ."""
        if self._probability is None:
            return None, None
        shape = self.signature.outputs[self._probability].shape
        if len(shape) > 1 or shape == (-1,):
            return None, None
        n_values = shape[0] if shape else 1
        within = messages.message("prediction.Probabilities")
        head = packed_head(field_number(self._one, "probabilities"), n_values)
        inner = packed_head(field_number(within, "values"), n_values)
        wrapped = wrapped_head(field_number(self._many, "probabilities"), inner, n_values)
        return PackedRows(n_values, head), PackedRows(n_values, wrapped)

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

    def read_one(self, payload: bytes) -> Batch:
        """The accepted row of a PredictRequest. Raises InvalidInput, DecodeError."""
        packed = self._packed
        row: Sequence[float] | None = None if packed is None else packed.read_one(payload)
        if row is None:
            row = self._asked_one.FromString(payload).features
        return Batch(self._fields, 1, (self.row(row),))

    def read_many(self, payload: bytes, *, max_rows: int) -> Batch:
        """The accepted rows of a BatchPredictRequest.

        Raises InvalidInput, TooLarge, DecodeError.
        """
        rows: list[tuple[float, ...]] | None = None
        packed = self._packed_many
        if packed is not None and 0 < (n_rows := packed.count(payload)) <= max_rows:
            if n_rows > FEW_ROWS:
                batch = self._at_once(packed, payload)
                if batch is not None:
                    return batch
            rows = packed.read_few(payload)
        if rows is not None:
            return self._accepted(rows)
        instances = self._asked_many.FromString(payload).instances
        if not instances:
            raise InvalidInput("'instances' is empty; send at least one row", field="instances")
        if len(instances) > max_rows:
            raise TooLarge(
                f"{len(instances)} rows in one request, but the limit is {max_rows}; send fewer"
            )
        return self._accepted(instance.features for instance in instances)

    def _at_once(self, packed: PackedRows, payload: bytes) -> Batch | None:
        """Many rows; None when they lie otherwise, or their fields must say what is wrong."""
        if self._matrix is None and self._columns is None:
            return None
        matrix = packed.read_many(payload)
        if matrix is None:
            return None
        if self._matrix is not None:
            whole = self._matrix.accepted(matrix)
            return None if whole is None else Batch.from_matrix(self._fields, whole)
        columns = self._columns.accepted(matrix) if self._columns is not None else None
        return None if columns is None else Batch(self._fields, len(matrix), None, tuple(columns))

    def _accepted(self, rows: Iterable[Sequence[float]]) -> Batch:
        accepted = []
        for number, row in enumerate(rows):
            try:
                accepted.append(self.row(row))
            except InvalidInput as error:
                raise error.at_row(number) from None
        return Batch.from_rows(self._fields, accepted)

    def write_one(self, outputs: Batch, version: str) -> bytes:
        """The PredictResponse of one row. Raises OverflowError when it does not fit."""
        (row,) = outputs.rows
        label = row[self._prediction]
        head, tail = self._heads.get(label), self._tails.get(version)
        if head is None or tail is None:
            head = self._one(prediction=_int32(label)).SerializeToString()
            tail = self._one(model_version=version).SerializeToString()
            if len(self._heads) < _MOST_KEPT:
                self._heads[label], self._tails[version] = head, tail
        if self._probability is None:
            return head + tail
        values = row[self._probability]
        if self._probabilities is not None:
            if not isinstance(values, list):
                values = (values,)
            return b"".join((head, self._probabilities.write_one(values), tail))
        middle: bytes = self._one(probabilities=_listed(values)).SerializeToString()
        return b"".join((head, middle, tail))

    def write_many(self, outputs: Batch) -> bytes:
        """The BatchPredictResponse of all rows. Raises OverflowError when they do not fit."""
        labels = outputs.columns[self._prediction]
        if labels.min() >= 0 and labels.max() <= _MOST_IN_A_BYTE:
            packed = labels.astype(np.uint8).tobytes()
            written = b"".join((self._predictions_tag, varint(len(packed)), packed))
        else:
            written = self._many(predictions=map(_int32, labels.tolist())).SerializeToString()
        if self._probability is None:
            return written
        values = outputs.columns[self._probability]
        if self._probabilities_many is not None:
            return written + self._probabilities_many.write_many(values.reshape(len(labels), -1))
        answer = self._many()
        for row in values.tolist():
            answer.probabilities.add(values=_listed(row))
        rest: bytes = answer.SerializeToString()
        return written + rest


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
