"""The JSON asking codec is the other side of `json_rows`: it writes bodies and reads answers."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import Array
from foretell.core.signature import Signature


def _plain(value: Any) -> Any:
    """A shaped field's value, as JSON has it."""
    return value.tolist() if isinstance(value, np.ndarray) else value


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


class _Versioned(msgspec.Struct):
    """What every answer has; all else is passed over."""

    model_version: str


_versioned = msgspec.json.Decoder(_Versioned)


def version_in(body: bytes) -> str:
    """The version that gave the answer in `body`. Raises ValueError."""
    try:
        return _versioned.decode(body).model_version
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


class JsonAsking:
    """Writes requests and reads answers of one signature. NaN and None go and come as `null`."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        names = [field.name for field in signature.outputs]
        self._prediction = "prediction" if "prediction" in names else None
        self._probabilities = [name for name in names if name.split("_")[0] == "probability"]
        told = {self._prediction, *self._probabilities}
        self._others = [name for name in names if name not in told]

    def write_row(self, batch: Batch) -> bytes:
        """The `/predict` body of a batch of one accepted row."""
        (row,) = batch.rows
        return _encode({"features": row} if self._may_be_wrapped else self._named(row))

    def write_rows(self, batch: Batch) -> bytes:
        """The `/batch_predict` body of accepted rows."""
        return _encode({"instances": batch.rows})

    @property
    def _may_be_wrapped(self) -> bool:
        return "features" not in self.signature.input_names

    def _named(self, row: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.signature.input_names, row, strict=True))

    def read_row(self, body: bytes) -> tuple[Batch, str]:
        """The outputs in a `/predict` answer, and the version that gave them. Raises ValueError."""
        told = _decoded(body)
        values = self._by_name(told, "prediction", "probability")
        return self._batch({name: [value] for name, value in values.items()}), _version(told)

    def read_rows(self, body: bytes) -> tuple[Batch, str]:
        """The same of a `/batch_predict` answer. Raises ValueError."""
        told = _decoded(body)
        values = self._by_name(told, "predictions", "probabilities", by_row=True)
        return self._batch(values), _version(told)

    def _by_name(
        self, told: dict[str, Any], predicted: str, grouped: str, *, by_row: bool = False
    ) -> dict[str, Any]:
        """The value, or the values of all rows, of each output."""
        values: dict[str, Any] = {}
        if self._prediction is not None:
            values[self._prediction] = told[predicted]
            values |= told["outputs"] if self._others else {}
        elif len(self._others) == 1:
            values[self._others[0]] = told[predicted]
        elif self._others:
            values |= told[predicted]
        if len(self._probabilities) == 1:
            values[self._probabilities[0]] = told[grouped]
        elif self._probabilities:
            parts = zip(*told[grouped], strict=True) if by_row else told[grouped]
            values |= zip(self._probabilities, parts, strict=True)
        return values

    def _batch(self, values: dict[str, Any]) -> Batch:
        outputs = self.signature.outputs
        columns = [values[field.name] for field in outputs]
        return Batch.from_values(outputs, len(columns[0]), columns)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(told, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - a wrong body, not a wrong argument
    return told


def _version(told: dict[str, Any]) -> str:
    return str(told["model_version"])


def columns_of(batch: Batch) -> dict[str, Array]:
    """The columns of a batch by name."""
    names = (field.name for field in batch.fields)
    return dict(zip(names, batch.columns, strict=True))
