"""Tensors in `inference.ModelInferRequest` and `ModelInferResponse`.

Rules (OIP's gRPC part):

1. Raw and typed contents are not mixed: raw ones, when there are any, are one for each input.
2. FP16 is raw only.
3. Answers are raw, which all clients read; some read nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foretell.codecs import messages
from foretell.codecs.packed import field_number, tag, varint
from foretell.codecs.tensors import (
    Tensor,
    count_of,
    datatype_of,
    from_raw,
    raw_of,
    shaped,
    to_raw,
)
from foretell.core.field import Datatype
from foretell.errors import InvalidInput

_CONTENTS = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}


def tensors_of(request: Any) -> list[Tensor]:
    """The input tensors of a ModelInferRequest. Raises InvalidInput."""
    raw = request.raw_input_contents
    if not raw:
        return [_typed(part) for part in request.inputs]
    if len(raw) != len(request.inputs):
        raise InvalidInput(
            f"there are {len(raw)} raw_input_contents for {len(request.inputs)} inputs; send one "
            "for each"
        )
    found = []
    for part, content in zip(request.inputs, raw, strict=True):
        if part.HasField("contents"):
            raise InvalidInput(
                f"input '{part.name}' has contents beside raw_input_contents; send one of both",
                field=part.name,
            )
        datatype = datatype_of(part.datatype, part.name)
        found.append(from_raw(part.name, datatype, part.shape, content))
    return found


def _typed(part: Any) -> Tensor:
    datatype = datatype_of(part.datatype, part.name)
    kind = _CONTENTS.get(datatype)
    if kind is None:
        raise InvalidInput(
            f"input '{part.name}' is {datatype}, which goes into raw_input_contents only",
            field=part.name,
        )
    values, count = getattr(part.contents, kind), count_of(part.shape, part.name)
    if len(values) != count:
        raise InvalidInput(
            f"input '{part.name}' has {len(values)} {kind}, but shape {list(part.shape)[:8]} is "
            f"for {count}",
            field=part.name,
        )
    if datatype is Datatype.BYTES:
        boxed = np.empty(count, dtype=object)
        try:
            boxed[:] = [text.decode() for text in values]
        except UnicodeDecodeError:
            raise InvalidInput(
                f"'{part.name}' has a text that is not UTF-8", field=part.name
            ) from None
        return Tensor(part.name, datatype, shaped(boxed, part.shape, part.name))
    try:
        array = np.array(values, datatype.numpy)
    except OverflowError:
        raise InvalidInput(
            f"'{part.name}' has values that are out of range for {datatype}", field=part.name
        ) from None
    return Tensor(part.name, datatype, shaped(array, part.shape, part.name))


def response_of(tensors: list[Tensor], *, model: str, version: str, request_id: str) -> Any:
    """The ModelInferResponse that carries `tensors`."""
    response = _head_of(tensors, model, version, request_id)
    response.raw_output_contents.extend(map(to_raw, tensors))
    return response


def write_response(tensors: list[Tensor], *, model: str, version: str, request_id: str) -> bytes:
    """The same, serialized, without the copies that the message makes of all contents.

    Parts of a message may be written one by one (protobuf's "Encoding"): its fields, then the
    raw contents, each behind its tag and its length.
    """
    head = _head_of(tensors, model, version, request_id)
    before = tag(field_number(head, "raw_output_contents"))
    parts: list[bytes | memoryview] = [head.SerializeToString()]
    for raw in map(raw_of, tensors):
        parts += (before, varint(len(raw)), raw)
    return b"".join(parts)


def _head_of(tensors: list[Tensor], model: str, version: str, request_id: str) -> Any:
    response = messages.message("inference.ModelInferResponse")(
        model_name=model, model_version=version, id=request_id
    )
    for tensor in tensors:
        response.outputs.add(
            name=tensor.name, datatype=tensor.datatype.value, shape=tensor.values.shape
        )
    return response


def parameter(value: Any) -> Any:
    """The plain value of an InferParameter; None when it holds none."""
    kind = value.WhichOneof("parameter_choice")
    return None if kind is None else getattr(value, kind)
