"""The body of an inference request of the Open Inference Protocol over HTTP, and of its reply.

Rules:

1. A body is a JSON object. With the binary tensor extension, raw tensors follow it, in the order
   of the inputs that have `binary_data_size`; the object's length comes in a header.
2. A length of 0 says that the body is the raw tensor of a model's only input, or of a dense
   model's matrix: its number of rows follows from its size. Its reply is all binary.
3. Of the parameters `timeout`, `binary_data_output`, `binary_data`, `binary_data_size` and
   `classification` are obeyed; those of shared memory are refused, all others passed over.
4. Data in a reply is flat. NaN is `null` there, as JSON has no other word for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from foretell.codecs.json_bounds import JsonBounds
from foretell.codecs.tensors import (
    Tensor,
    Tensors,
    classified,
    datatype_of,
    from_raw,
    from_values,
    raw_of,
)
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import spoken
from foretell.core.signature import Signature
from foretell.errors import InvalidInput

_MOST_TIMEOUT_US = 24 * 60 * 60 * 1_000_000
_SHARED_MEMORY = "shared_memory_region"

Parameters = dict[str, Any] | None


class _Input(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = None
    data: list[Any] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: Parameters = None


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters = None
    outputs: list[_Output] | None = None


class _Told(msgspec.Struct, gc=False, omit_defaults=True):
    """One output of a reply."""

    name: str
    datatype: str
    shape: Sequence[int]
    parameters: dict[str, int] | None = None
    data: Any = None


class _Reply(msgspec.Struct, gc=False):
    model_name: str
    model_version: str
    outputs: list[_Told]
    id: str | msgspec.UnsetType = msgspec.UNSET


class Wanted(NamedTuple):
    """How one output is to be sent: `classification` is how many of its greatest values, or 0."""

    name: str
    binary: bool
    classification: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """An inference request: its accepted rows, and how to answer. `timeout_s` 0 is none."""

    batch: Batch
    wanted: tuple[Wanted, ...]
    id: str | None = None
    timeout_s: float = 0.0


class Encoded(NamedTuple):
    """A reply's body; `header_length` is that of its JSON when binary tensors follow it."""

    body: bytes
    header_length: int | None


class OipJson:
    """Decodes requests and encodes replies of one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._tensors = Tensors(signature)
        self._bounds = JsonBounds(signature)
        self._decode = msgspec.json.Decoder(_Request).decode
        self._encode = msgspec.json.Encoder().encode
        labels = signature.class_labels or ()
        # Those of a classifier with one target: an index of several targets has no one label.
        self._labels = None if any(isinstance(label, tuple) for label in labels) else labels

    def decode(self, body: bytes, header_length: int | None, *, max_rows: int) -> Asked:
        """The request in `body`, accepted. Raises InvalidInput, TooLarge."""
        if header_length == 0:
            batch = self._tensors.accept([self._bare(body)], max_rows=max_rows)
            return Asked(batch, tuple(Wanted(name, True) for name in self._tensors.wanted(())))
        length = len(body) if header_length is None else header_length
        if length > len(body):
            raise InvalidInput(
                f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes"
            )
        text = body[:length] if length < len(body) else body
        self._bounds.check(text, max_rows=max_rows)
        request = self._request(text)
        told = _Parameters(request.parameters, "the request")
        wanted = self._wanted(request.outputs or (), told)
        inputs = request.inputs
        self._tensors.refuse_others((part.name for part in inputs), len(inputs))
        tensors = _tensors_of(inputs, memoryview(body)[length:])
        return Asked(
            self._tensors.accept(tensors, max_rows=max_rows),
            wanted,
            request.id,
            told.whole("timeout", _MOST_TIMEOUT_US) / 1e6,
        )

    def _request(self, text: bytes) -> _Request:
        if not text.strip():
            raise InvalidInput('the body is empty; send {"inputs": [tensor, …]}')
        try:
            return self._decode(text)
        except RecursionError:
            raise InvalidInput("the body is nested too deeply") from None
        except msgspec.ValidationError as error:
            raise InvalidInput(f"the body is no inference request: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the body is not valid JSON: {error}") from None

    def _wanted(self, outputs: Sequence[_Output], request: _Parameters) -> tuple[Wanted, ...]:
        binary = request.flag("binary_data_output", default=False)
        names = self._tensors.wanted(output.name for output in outputs)
        if not outputs:
            return tuple(Wanted(name, binary) for name in names)
        wanted = []
        for output in outputs:
            told = _Parameters(output.parameters, f"output '{output.name}'")
            told.refuse_shared_memory()
            most = told.whole("classification", 2**31 - 1)
            datatype = self.signature.outputs[self._tensors.output(output.name)].datatype
            if most and not datatype.is_numeric:
                raise InvalidInput(
                    f"output '{output.name}' is {datatype}, which has no greatest values",
                    field=output.name,
                )
            wanted.append(Wanted(output.name, told.flag("binary_data", default=binary), most))
        return tuple(wanted)

    def _bare(self, body: bytes) -> Tensor:
        """The tensor that is the whole body: as many rows as there are in it."""
        inputs, dense = self.signature.inputs, self.signature.dense
        row: tuple[int, ...]
        if len(inputs) > 1:
            if dense is None:
                raise InvalidInput(
                    "a raw request (Inference-Header-Content-Length 0) is for models with one "
                    "input, or with inputs of one number datatype; the inputs are "
                    f"{', '.join(self.signature.input_names)}"
                )
            name, datatype, row = "inputs", dense, (len(inputs),)
        else:
            name, datatype, row = inputs[0].name, inputs[0].datatype, inputs[0].shape
        if datatype is Datatype.BYTES and row == ():
            # One text, without its length: as Triton reads it.
            return from_values(name, datatype, [1], [_text(name, body)])
        size = math.prod(row) * datatype.numpy.itemsize
        if datatype is Datatype.BYTES or -1 in row:
            raise InvalidInput(
                f"the shape of '{name}' does not follow from the size of a raw request; "
                "send it with a JSON header",
                field=name,
            )
        if len(body) % size:
            raise InvalidInput(
                f"'{name}' has {len(body)} bytes, but a row of it has {size}", field=name
            )
        return from_raw(name, datatype, [len(body) // size, *row], body)

    def encode(self, outputs: Batch, asked: Asked, *, model: str, version: str) -> Encoded:
        """The reply to `asked`."""
        told: list[_Told] = []
        raw: list[bytes | memoryview] = []
        tensors = self._tensors.give(outputs, [wanted.name for wanted in asked.wanted])
        for wanted, plain in zip(asked.wanted, tensors, strict=True):
            most = wanted.classification
            tensor = classified(plain, most, self._labels) if most else plain
            shape = tensor.values.shape
            if wanted.binary:
                raw.append(raw_of(tensor))
                size = {"binary_data_size": len(raw[-1])}
                told.append(_Told(tensor.name, tensor.datatype.value, shape, size))
            else:
                data = tensor.values.ravel().tolist()
                told.append(_Told(tensor.name, tensor.datatype.value, shape, data=data))
        request_id = msgspec.UNSET if asked.id is None else asked.id
        header = self._encode(_Reply(model, version, told, request_id))
        if not raw:
            return Encoded(header, None)
        return Encoded(b"".join([header, *raw]), len(header))


class _Parameters:
    """The parameters of a request, an input or an output, called `what`."""

    def __init__(self, told: Parameters, what: str) -> None:
        self._told = told or {}
        self._what = what

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean. Raises InvalidInput."""
        value = self._told.get(name, default)
        if not isinstance(value, bool):
            raise self._refused(name, "true or false")
        return value

    def whole(self, name: str, most: int) -> int:
        """A whole number from 0 to `most`, 0 when it is not there. Raises InvalidInput."""
        value = self._told.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise self._refused(name, f"a whole number from 0 to {most}")
        return value

    def refuse_shared_memory(self) -> None:
        """Raise InvalidInput when the tensor is to be in shared memory."""
        if _SHARED_MEMORY in self._told:
            raise InvalidInput(f"{self._what} is in shared memory, which this server does not read")

    def __contains__(self, name: str) -> bool:
        return name in self._told

    def _refused(self, name: str, expected: str) -> InvalidInput:
        value = spoken(self._told[name])
        return InvalidInput(
            f"the parameter '{name}' of {self._what} is {value}, but must be {expected}"
        )


def _tensors_of(inputs: Sequence[_Input], raw: memoryview) -> list[Tensor]:
    """The tensors of a request, whose binary parts are in `raw`, all of it. Raises InvalidInput."""
    found, at = [], 0
    for part in inputs:
        told = _Parameters(part.parameters, f"input '{part.name}'")
        told.refuse_shared_memory()
        datatype = datatype_of(part.datatype, part.name)
        if "binary_data_size" not in told:
            if part.data is None:
                raise InvalidInput(f"input '{part.name}' has no data", field=part.name)
            found.append(from_values(part.name, datatype, part.shape, part.data))
            continue
        if part.data is not None:
            raise InvalidInput(
                f"input '{part.name}' has data and binary_data_size; send one of both",
                field=part.name,
            )
        end = at + told.whole("binary_data_size", 2**63 - 1)
        if end > len(raw):
            raise InvalidInput(
                f"input '{part.name}' has {end - at} bytes by its binary_data_size, but after the "
                f"JSON (its length is in Inference-Header-Content-Length) {len(raw) - at} are left",
                field=part.name,
            )
        found.append(from_raw(part.name, datatype, part.shape, raw[at:end]))
        at = end
    if at != len(raw):
        raise InvalidInput(f"{len(raw) - at} bytes of the body belong to no input")
    return found


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"'{name}' has a text that is not UTF-8", field=name) from None
