"""A tensor is the Open Inference Protocol's form of a column: a named array, its first axis rows.

Rules:

1. A model takes one tensor for each of its inputs, [n] or [n, 1] for a scalar, [n, *shape]
   for others, in any order. A model of numbers also takes a single tensor [n, k] of any name.
2. The datatype sent may differ from the signature's where `Field.accept_column` allows it:
   whole floats for integers, integers for floats, never text for numbers.
3. Tensors go out in the order of the signature, or in that of the names asked for.
4. Raw, a tensor is its numbers one row after the other, little-endian, a boolean in one byte,
   a text in UTF-8 behind its length in four bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import Array, Datatype, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

_LENGTH = struct.Struct("<I")
_MOST_SIZES = 32  # numpy has no more axes


class Tensor(NamedTuple):
    """`values` has the tensor's shape and its datatype's dtype.

    Texts are `str` in an object array; in any object array None is a missing value.
    """

    name: str
    datatype: Datatype
    values: Array


class Tensors:
    """Reads and writes the tensors of one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._numbers = all(f.datatype.is_numeric and not f.shape for f in signature.inputs)
        self._places = {name: place for place, name in enumerate(signature.input_names)}
        self._outputs = {field.name: place for place, field in enumerate(signature.outputs)}

    def accept(self, tensors: Sequence[Tensor], *, max_rows: int) -> Batch:
        """The rows of a request's tensors, accepted. Raises InvalidInput, TooLarge."""
        inputs = self.signature.inputs
        if len(tensors) == 1 and self._is_matrix(tensors[0]):
            columns = dict(zip(self._places, tensors[0].values.T, strict=True))
        else:
            columns = self._by_name(tensors)
        n_rows = len(next(iter(columns.values())))
        for name, column in columns.items():
            if len(column) != n_rows:
                raise InvalidInput(
                    f"input '{name}' has {len(column)} rows, but another one {n_rows}", field=name
                )
        if n_rows == 0:
            raise InvalidInput("there are no rows; send at least one")
        if n_rows > max_rows:
            raise TooLarge(f"{n_rows} rows in one request, but the limit is {max_rows}; send fewer")
        accepted = [field.accept_column(columns[field.name]) for field in inputs]
        return Batch.from_columns(inputs, accepted)

    def _is_matrix(self, tensor: Tensor) -> bool:
        """Whether this one tensor stands for all inputs."""
        if not self._numbers or tensor.values.ndim != 2:
            return False
        wide = tensor.values.shape[1] == len(self.signature.inputs)
        return wide and (len(self.signature.inputs) > 1 or tensor.name not in self._places)

    def _by_name(self, tensors: Sequence[Tensor]) -> dict[str, Array]:
        columns: dict[str, Array] = {}
        for name, _, values in tensors:
            place = self._places.get(name)
            if place is None:
                raise InvalidInput(
                    f"there is no input '{name}'; the inputs are {', '.join(self._places)}",
                    field=name,
                )
            if name in columns:
                raise InvalidInput(f"input '{name}' was sent twice", field=name)
            if values.ndim == 0:
                raise InvalidInput(f"input '{name}' has no shape; send [rows, ...]", field=name)
            scalar = not self.signature.inputs[place].shape and values.shape[1:] == (1,)
            columns[name] = values.reshape(-1) if scalar else values
        for name in self._places:
            if name not in columns:
                raise InvalidInput(f"input '{name}' is missing", field=name)
        return columns

    def give(self, outputs: Batch, wanted: Iterable[str] = ()) -> list[Tensor]:
        """The tensors of a reply: those `wanted`, or all. Raises InvalidInput for others."""
        names = tuple(wanted) or tuple(self._outputs)
        return [
            Tensor(name, outputs.fields[place].datatype, outputs.columns[place])
            for name, place in ((name, self.output(name)) for name in names)
        ]

    def output(self, name: str) -> int:
        """The place of the output called `name`. Raises InvalidInput."""
        place = self._outputs.get(name)
        if place is None:
            raise InvalidInput(
                f"there is no output '{name}'; the outputs are {', '.join(self._outputs)}",
                field=name,
            )
        return place


def shape_of(field: Field) -> list[int]:
    """The protocol's shape of a field: any number of rows in front."""
    return [-1, *field.shape]


def datatype_of(told: str, name: str) -> Datatype:
    """The datatype called `told`, of tensor `name`. Raises InvalidInput."""
    try:
        return Datatype(told)
    except ValueError:
        known = ", ".join(Datatype)
        raise InvalidInput(
            f"the datatype of '{name}' is {told!r}, but must be one of {known}", field=name
        ) from None


def count_of(shape: Sequence[int], name: str) -> int:
    """How many elements a tensor of `shape` has. Raises InvalidInput."""
    if len(shape) > _MOST_SIZES or any(size < 0 for size in shape):
        raise InvalidInput(
            f"the shape of '{name}' is {list(shape)[:8]}, but must be sizes from 0 up", field=name
        )
    return math.prod(shape)


def from_raw(name: str, datatype: Datatype, shape: Sequence[int], raw: bytes) -> Tensor:
    """The tensor in `raw`. Raises InvalidInput when it is not of that size."""
    count = count_of(shape, name)
    if datatype is Datatype.BYTES:
        found = _texts(name, raw, count)
        texts = np.empty(count, dtype=object)
        texts[:] = found
        return Tensor(name, datatype, texts.reshape(shape))
    dtype = datatype.numpy.newbyteorder("<")
    if count * dtype.itemsize != len(raw):
        raise InvalidInput(
            f"'{name}' has {len(raw)} bytes, but {datatype} of shape {list(shape)} "
            f"are {count * dtype.itemsize}",
            field=name,
        )
    if datatype is Datatype.BOOL:
        return Tensor(name, datatype, (np.frombuffer(raw, np.uint8) != 0).reshape(shape))
    return Tensor(name, datatype, np.frombuffer(raw, dtype).reshape(shape))


def _texts(name: str, raw: bytes, count: int) -> list[str]:
    found, at = [], 0
    try:
        while at < len(raw):
            (size,) = _LENGTH.unpack_from(raw, at)
            at += 4
            if at + size > len(raw):
                raise InvalidInput(f"a text of '{name}' ends after its bytes do", field=name)
            found.append(raw[at : at + size].decode())
            at += size
    except struct.error:
        raise InvalidInput(f"'{name}' ends within the length of a text", field=name) from None
    except UnicodeDecodeError:
        raise InvalidInput(f"'{name}' has a text that is not UTF-8", field=name) from None
    if len(found) != count:
        raise InvalidInput(
            f"'{name}' has {len(found)} texts, but its shape is for {count}", field=name
        )
    return found


def from_values(name: str, datatype: Datatype, shape: Sequence[int], values: Any) -> Tensor:
    """The tensor whose elements are `values`, a flat sequence or rows of rows, as JSON has them.

    Raises InvalidInput when they are not of that datatype or number.
    """
    count = count_of(shape, name)
    flat = _flat(values)
    if len(flat) != count:
        raise InvalidInput(
            f"'{name}' has {len(flat)} values, but shape {list(shape)} is for {count}", field=name
        )
    if datatype is Datatype.BYTES or None in flat:
        boxed = np.empty(count, dtype=object)
        boxed[:] = flat
        return Tensor(name, datatype, boxed.reshape(shape))
    kinds = {bool} if datatype is Datatype.BOOL else {int, float} if datatype.is_float else {int}
    if not set(map(type, flat)) <= kinds and not _whole(flat, datatype):
        raise InvalidInput(f"'{name}' has values that are not {datatype}", field=name)
    try:
        return Tensor(name, datatype, np.array(flat, datatype.numpy).reshape(shape))
    except OverflowError:
        raise InvalidInput(
            f"'{name}' has values that are out of range for {datatype}", field=name
        ) from None


def _whole(flat: list[Any], datatype: Datatype) -> bool:
    """Whether these may be integers: JSON has writers that make 24.0 of them."""
    return datatype.is_integer and all(
        type(value) is int or (type(value) is float and value.is_integer()) for value in flat
    )


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    flat: list[Any] = values
    for _ in range(_MOST_SIZES):
        if not any(isinstance(part, list) for part in flat):
            return flat
        flat = [leaf for part in flat for leaf in (part if isinstance(part, list) else [part])]
    raise InvalidInput("the data is nested too deeply")


def to_raw(tensor: Tensor) -> bytes:
    """The tensor's bytes; missing texts are empty."""
    if tensor.datatype is not Datatype.BYTES:
        values = tensor.values
        dtype = tensor.datatype.numpy.newbyteorder("<")
        return np.ascontiguousarray(values, dtype).tobytes()
    parts: list[bytes] = []
    for value in tensor.values.ravel().tolist():
        text = b"" if value is None else str(value).encode()
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)
