"""Bodies of the scoring contracts: KServe's V1, MLflow's and SageMaker's `/invocations`, Vertex AI.

Rules:

1. Rows come as `instances` or `inputs` (rows, or columns by name), MLflow's `dataframe_records`
   and `dataframe_split`, or CSV. Each is judged by `Signature.accept_row`, like everywhere.
2. A model with one input also takes its bare values as rows, whatever their shape.
3. `parameters`, `params` and `signature_name` are read past: models here take none.
4. CSV has a line of names in front, in any order, or none, and values in the signature's order.
   An empty cell is a missing value, and so is what pandas writes for one in a column of numbers.
5. The reply is `{"predictions": […]}`: the output called `prediction`, the only output, or an
   object of all outputs for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from foretell.codecs.json_bounds import JsonBounds
from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch, Row
from foretell.core.field import spoken
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

_V1 = ("instances", "inputs")
_MLFLOW = ("dataframe_split", "dataframe_records", "instances", "inputs")
_READ_PAST = frozenset({"parameters", "params", "signature_name"})


class ScoringBodies:
    """Decodes requests and encodes replies of one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._rows = JsonRows(signature)
        self._bounds = JsonBounds(signature)
        self._encode = msgspec.json.Encoder().encode

    def decode_v1(self, body: bytes, *, max_rows: int) -> Batch:
        """The rows of a `:predict` body, accepted. Raises InvalidInput, TooLarge."""
        return self._decode(body, _V1, max_rows)

    def decode_invocation(self, body: bytes, *, max_rows: int) -> Batch:
        """The rows of an `/invocations` body in JSON, accepted. Raises InvalidInput, TooLarge."""
        return self._decode(body, _MLFLOW, max_rows)

    def _decode(self, body: bytes, keys: Sequence[str], max_rows: int) -> Batch:
        if b'"instances"' in body[:24]:
            try:
                return self._rows.decode_rows(body, max_rows=max_rows)
            except InvalidInput:
                pass  # bare values, or something beside the instances: looked at below
        self._bounds.check(body, max_rows=max_rows)
        told = _object(body)
        found = [key for key in keys if key in told]
        for key in told:
            if key not in found and key not in _READ_PAST:
                raise InvalidInput(
                    f"unknown field {spoken(key)}; send rows as {' or '.join(keys)}", field=key
                )
        if len(found) != 1:
            raise InvalidInput(f"the body must have one of {', '.join(keys)}; it has {len(found)}")
        (key,) = found
        value = told[key]
        if key == "dataframe_split":
            rows = _split(value, max_rows)
        elif key == "inputs" and isinstance(value, dict):
            rows = _from_columns(value, key, max_rows)
        else:
            rows = _list(value, key)
        return self._accepted(rows, max_rows)

    def _accepted(self, rows: Sequence[object], max_rows: int) -> Batch:
        if not rows:
            raise InvalidInput("there are no rows; send at least one")
        _check_count(len(rows), max_rows)
        accepted: list[Row] = []
        for number, row in enumerate(rows):
            try:
                accepted.append(self.signature.accept_row(self._row(row)))
            except InvalidInput as error:
                raise error.at_row(number) from None
        return Batch.from_accepted(self.signature.inputs, accepted)

    def _row(self, value: object) -> dict[str, Any] | list[Any]:
        """A row by name or in order; the bare value of a model's only input becomes one."""
        if isinstance(value, dict):
            return value
        inputs = self.signature.inputs
        if len(inputs) == 1 and _depth(value) == len(inputs[0].shape):
            return [value]
        if not isinstance(value, list):
            raise InvalidInput(f"is {spoken(value)}, but must be an object or an array")
        return value

    def encode(self, outputs: Batch) -> bytes:
        """The reply for all rows of outputs."""
        columns = {
            field.name: column.tolist()
            for field, column in zip(outputs.fields, outputs.columns, strict=True)
        }
        predictions: list[Any]
        if "prediction" in columns:
            predictions = columns["prediction"]
        elif len(columns) == 1:
            (predictions,) = columns.values()
        else:
            rows = zip(*columns.values(), strict=True)
            predictions = [dict(zip(columns, row, strict=True)) for row in rows]
        return self._encode({"predictions": predictions})


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise InvalidInput("the body is empty; send a JSON object")
    try:
        told = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None
    if not isinstance(told, dict):
        raise InvalidInput(f"the body is {spoken(told)}, but must be an object")
    return told


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"'{what}' is {spoken(value)}, but must be an array", field=what)
    return value


def _split(told: object, max_rows: int) -> list[Any]:
    """The rows of pandas' `split` form; its index says nothing to a model."""
    if not isinstance(told, dict):
        raise InvalidInput(
            f"'dataframe_split' is {spoken(told)}, but must be an object of columns and data",
            field="dataframe_split",
        )
    extra = next((key for key in told if key not in ("columns", "data", "index")), None)
    if extra is not None:
        raise InvalidInput(f"unknown field {spoken(extra)} in 'dataframe_split'", field=extra)
    data = _list(told.get("data"), "data")
    _check_count(len(data), max_rows)
    if told.get("columns") is None:
        return data
    columns = _list(told["columns"], "columns")
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) < len(columns):
        raise InvalidInput("'columns' must be different names", field="columns")
    rows = []
    for number, row in enumerate(data):
        if len(_list(row, "data")) != len(columns):
            raise InvalidInput(
                f"row {number}: there are {len(row)} values for {len(columns)} columns", row=number
            )
        rows.append(dict(zip(columns, row, strict=True)))
    return rows


def _from_columns(columns: dict[str, Any], what: str, max_rows: int) -> list[Any]:
    """The rows of columns by name."""
    values = [_list(column, name) for name, column in columns.items()]
    if len(set(map(len, values))) > 1:
        raise InvalidInput(f"the columns of '{what}' differ in length", field=what)
    for column in values[:1]:
        _check_count(len(column), max_rows)
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _check_count(n_rows: int, max_rows: int) -> None:
    """Raise TooLarge for too many rows: before one of them is made, as each costs a dict."""
    if n_rows > max_rows:
        raise TooLarge(f"{n_rows} rows in one request, but the limit is {max_rows}; send fewer")


def _depth(value: object) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth
