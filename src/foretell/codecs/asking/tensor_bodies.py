"""The asking side of `oip_json`: bodies of raw tensors, for many rows at a time.

Rules:

1. A dense model's inputs are one matrix; else each is a tensor of its own. It goes as raw bytes
   behind the JSON, or as data in it when texts or booleans are missing: raw tensors have no sign
   for that.
2. Outputs are asked for as raw bytes, and read as they come.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from foretell.codecs.tensors import Tensor, datatype_of, from_raw, from_values, to_raw
from foretell.core.batch import Batch
from foretell.core.field import Array, dense_datatype
from foretell.core.signature import Signature
from foretell.errors import InvalidInput

_encode = msgspec.json.Encoder().encode


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class _Reply(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[_Output]


_decode = msgspec.json.Decoder(_Reply).decode


class TensorBody(NamedTuple):
    """A request's body, which begins with `header_length` bytes of JSON."""

    body: bytes
    header_length: int


class TensorAnswer(NamedTuple):
    """What a reply holds."""

    version: str
    outputs: dict[str, Array]


def suits(signature: Signature) -> bool:
    """Whether raw tensors can hold all that the model may answer."""
    return all(f.datatype.is_numeric or not f.nullable for f in signature.outputs)


def write(batch: Batch) -> TensorBody:
    """The `/infer` body of accepted rows."""
    inputs, raw = [], []
    for tensor in _tensors_of(batch):
        values = tensor.values
        told: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype.value,
            "shape": values.shape,
        }
        if values.dtype == object and None in (flat := values.ravel().tolist()):
            told["data"] = flat
        else:
            raw.append(to_raw(tensor))
            told["parameters"] = {"binary_data_size": len(raw[-1])}
        inputs.append(told)
    header = _encode({"parameters": {"binary_data_output": True}, "inputs": inputs})
    return TensorBody(b"".join((header, *raw)), len(header))


def _tensors_of(batch: Batch) -> list[Tensor]:
    dense = dense_datatype(batch.fields)
    if dense is not None and len(batch.fields) > 1:
        return [Tensor("inputs", dense, batch.matrix)]
    named = zip(batch.fields, batch.columns, strict=True)
    return [Tensor(field.name, field.datatype, column) for field, column in named]


def read(body: bytes, header_length: int | None) -> TensorAnswer:
    """The reply in `body`. Raises ValueError."""
    length = len(body) if header_length is None else header_length
    rest, at = memoryview(body)[length:], 0
    outputs = {}
    try:
        told = _decode(memoryview(body)[:length])
        for output in told.outputs:
            datatype = datatype_of(output.datatype, output.name)
            if output.data is not None:
                tensor = from_values(output.name, datatype, output.shape, output.data)
            else:
                size = int((output.parameters or {})["binary_data_size"])
                part = rest[at : at + size]
                tensor = from_raw(output.name, datatype, output.shape, part)
                at += size
            outputs[output.name] = tensor.values
    except (InvalidInput, msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        raise ValueError(str(error)) from error
    return TensorAnswer(told.model_version, outputs)
