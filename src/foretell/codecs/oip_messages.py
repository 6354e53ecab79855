"""Tensors in `inference.ModelInferRequest` and `ModelInferResponse`.

Rules (OIP's gRPC part):

1. Raw and typed contents are not mixed: raw ones, when there are any, are one for each input.
2. FP16 is raw only.
3. Answers are raw, which all clients read; some read nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from foretell.codecs import messages
from foretell.codecs.packed import field_number, tag, take_field, varint
from foretell.codecs.tensors import (
    Tensor,
    count_of,
    datatype_of,
    from_raw,
    raw_of,
    shaped,
    to_raw,
)
from foretell.core.datatype import Datatype
from foretell.errors import InvalidInput

Raw = Sequence[bytes | memoryview]
"""The raw contents of a request, one for each input."""

_LONG = 2**16
_Told = tuple[str, Datatype, tuple[int, ...]]

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


def read_request(payload: bytes) -> tuple[Any, Raw]:
    """A ModelInferRequest and its raw contents, of which the message made two copies.

    So from a long one they are taken as they lie in `payload`; its message is then without them.
    Raises DecodeError.
    """
    request = messages.message("inference.ModelInferRequest")
    if len(payload) > _LONG:
        taken = take_field(payload, field_number(request, "raw_input_contents"))
        if taken is not None:
            rest, raw = taken
            return request.FromString(rest), raw
    message = request.FromString(payload)
    return message, message.raw_input_contents


def tensors_of(request: Any, raw: Raw) -> list[Tensor]:
    """The input tensors of a ModelInferRequest with these raw contents. Raises InvalidInput."""
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
    told = [(tensor.name, tensor.datatype, tensor.values.shape) for tensor in tensors]
    response = _head_of(told, model, version)
    response.id = request_id
    response.raw_output_contents.extend(map(to_raw, tensors))
    return response


def write_response(
    tensors: list[Tensor], *, model: str, version: str, request_id: str
) -> list[bytes | memoryview]:
    """The parts of the same, serialized, without the copies that the message makes of all contents.

    Parts of a message may be written one by one (protobuf's "Encoding"): its fields, then the
    raw contents, each behind its tag and its length.
    """
    told = tuple((tensor.name, tensor.datatype, tensor.values.shape) for tensor in tensors)
    parts: list[bytes | memoryview] = [_written_head(told, model, version)]
    if request_id:
        parts.append(_response()(id=request_id).SerializeToString())
    before = _raw_tag()
    for raw in map(raw_of, tensors):
        parts += (before, varint(len(raw)), raw)
    return parts


@functools.cache
def _raw_tag() -> bytes:
    return tag(field_number(_response(), "raw_output_contents"))


@functools.lru_cache(maxsize=1024)
def _written_head(told: tuple[_Told, ...], model: str, version: str) -> bytes:
    """All but the numbers and the request's id, which is the same for most answers of a model."""
    written: bytes = _head_of(told, model, version).SerializeToString()
    return written


def _head_of(told: Iterable[_Told], model: str, version: str) -> Any:
    response = _response()(model_name=model, model_version=version)
    for name, datatype, shape in told:
        response.outputs.add(name=name, datatype=datatype.value, shape=shape)
    return response


def _response() -> Any:
    return messages.message("inference.ModelInferResponse")


def parameter(value: Any) -> Any:
    """The plain value of an InferParameter; None when it holds none."""
    kind = value.WhichOneof("parameter_choice")
    return None if kind is None else getattr(value, kind)
