"""A tensor is the Open Inference Protocol's form of a column: a named array, its first axis rows.

Rules:

1. A model takes one tensor for each of its inputs, [n] or [n, 1] for a scalar, [n, *shape]
   for others, in any order. A model whose inputs are all scalar numbers also takes a single
   tensor [n, k], whatever its name: its columns are the inputs in order.
2. The datatype sent may differ from the signature's where `Field.accept_column` allows it:
   whole floats for integers, integers for floats, never text for numbers.
3. Tensors go out in the order of the signature, or in that of the names asked for.
4. Raw, a tensor is its numbers one row after the other, little-endian, a boolean in one byte,
   a text in UTF-8 behind its length in four bytes.
5. Nothing is allocated for a shape before what was sent is known to be of that size.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from foretell.codecs.matrix import Matrix
from foretell.core.batch import Batch, Row
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

_LENGTH = struct.Struct("<I")
_MOST_SIZES = 64  # numpy has no more axes
_TOO_LARGE = 2**128
_FEW = 1024
"""So many numbers are copied in less time than a view of them takes to make."""

_NO_VALUE = type(None)
_LITTLE_ENDIAN = {known: known.numpy.newbyteorder("<") for known in Datatype}


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
        self._places = {name: place for place, name in enumerate(signature.input_names)}
        self._outputs = {field.name: place for place, field in enumerate(signature.outputs)}
        numbers = all(f.datatype.is_numeric and not f.shape for f in signature.inputs)
        self._wide = len(signature.inputs) if numbers else 0
        self._matrix = Matrix.of(signature)
        self._scalar = all(not field.shape for field in signature.inputs)

    def accept(self, tensors: Sequence[Tensor], *, max_rows: int) -> Batch:
        """The rows of a request's tensors, accepted. Raises InvalidInput, TooLarge."""
        inputs = self.signature.inputs
        if len(tensors) == 1 and self._is_matrix(tensors[0]):
            matrix = tensors[0].values
            _check_count(len(matrix), max_rows)
            rule = None if len(matrix) == 1 else self._matrix
            whole = None if rule is None else rule.accepted(matrix)
            if whole is not None:
                return Batch.from_matrix(inputs, _owned(whole))
            columns = dict(zip(self._places, matrix.T, strict=True))
        else:
            columns = self._by_name(tensors)
        n_rows = len(next(iter(columns.values())))
        for name, column in columns.items():
            if len(column) != n_rows:
                raise InvalidInput(
                    f"input '{name}' has {len(column)} rows, but another one {n_rows}", field=name
                )
        _check_count(n_rows, max_rows)
        if n_rows == 1 and self._scalar and all(c.shape == (1,) for c in columns.values()):
            return Batch(inputs, 1, (self._row(columns),))
        accepted = [field.accept_column(columns[field.name]) for field in inputs]
        return Batch.from_columns(inputs, [_owned(column) for column in accepted])

    def _row(self, columns: Mapping[str, Array]) -> Row:
        """The only row of `columns`: for one value a field, numpy takes ten times as long."""
        try:
            return tuple(f.accept(columns[f.name].item()) for f in self.signature.inputs)
        except InvalidInput as error:
            raise error.at_row(0) from None

    def refuse_others(self, names: Iterable[str], count: int) -> None:
        """Raise InvalidInput for the first of `count` names that is no input, or comes again.

        However many there are: it is among the first. One alone may be a matrix.
        """
        seen: dict[str, Field] = {}
        for name in names if count > 1 else ():
            seen[name] = self._input(name, seen)

    def _input(self, name: str, seen: Container[str]) -> Field:
        """The input of this name. Raises InvalidInput when there is none, or it was seen."""
        place = self._places.get(name)
        if place is None:
            raise InvalidInput(f"there is no input '{name}'; {self._listed()}", field=name)
        if name in seen:
            raise InvalidInput(f"input '{name}' was sent twice", field=name)
        return self.signature.inputs[place]

    def _is_matrix(self, tensor: Tensor) -> bool:
        """Whether this one tensor stands for all inputs."""
        if not self._wide or tensor.values.shape[1:] != (self._wide,):
            return False
        return self._wide > 1 or tensor.name not in self._places

    def _by_name(self, tensors: Sequence[Tensor]) -> dict[str, Array]:
        columns: dict[str, Array] = {}
        for name, _, values in tensors:
            field = self._input(name, columns)
            if values.ndim == 0:
                raise InvalidInput(f"input '{name}' has no shape; send [rows, ...]", field=name)
            scalar = not field.shape and values.shape[1:] == (1,)
            columns[name] = values.reshape(-1) if scalar else values
        for name in self._places:
            if name not in columns:
                raise InvalidInput(f"input '{name}' is missing; {self._listed()}", field=name)
        return columns

    def _listed(self) -> str:
        names = ", ".join(self._places)
        if not self._wide:
            return f"the inputs are {names}"
        return f"the inputs are {names}, or one tensor of shape [rows, {self._wide}]"

    def wanted(self, names: Iterable[str]) -> tuple[str, ...]:
        """The outputs asked for, or all. Raises InvalidInput for one that is unknown, or twice."""
        asked = tuple(names)
        for place, name in enumerate(asked):
            self.output(name)
            if name in asked[:place]:
                raise InvalidInput(f"output '{name}' was asked for twice", field=name)
        return asked or tuple(self._outputs)

    def give(self, outputs: Batch, wanted: Iterable[str] = ()) -> list[Tensor]:
        """The tensors of a reply: those `wanted`, or all. Raises InvalidInput for others."""
        places = [self._outputs[name] for name in self.wanted(wanted)]
        return [
            Tensor(outputs.fields[at].name, outputs.fields[at].datatype, outputs.columns[at])
            for at in places
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


def _owned(values: Array) -> Array:
    """Aligned, and models may write to it as to the columns of every other door: else a copy."""
    flags = values.flags
    if flags.aligned and flags.writeable:
        return values
    return np.require(values, requirements=["ALIGNED", "WRITEABLE"])


def _check_count(n_rows: int, max_rows: int) -> None:
    if n_rows == 0:
        raise InvalidInput("there are no rows; send at least one")
    if n_rows > max_rows:
        raise TooLarge(f"{n_rows} rows in one request, but the limit is {max_rows}; send fewer")


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
    least, greatest = min(shape, default=0), max(shape, default=0)
    if least < 0 or len(shape) > _MOST_SIZES:
        raise InvalidInput(
            f"the shape of '{name}' is {_shown(shape)}, but must be up to {_MOST_SIZES} sizes "
            "from 0 up",
            field=name,
        )
    if greatest >= _TOO_LARGE:  # JSON's may have thousands of digits
        raise InvalidInput(f"the shape of '{name}' is too large", field=name)
    return math.prod(shape)


def from_raw(
    name: str, datatype: Datatype, shape: Sequence[int], raw: bytes | memoryview
) -> Tensor:
    """The tensor in `raw`, where it is. Raises InvalidInput when it is not of that size."""
    count = count_of(shape, name)
    if datatype is Datatype.BYTES:
        return Tensor(name, datatype, shaped(_boxed(_texts(name, raw, count)), shape, name))
    dtype = _LITTLE_ENDIAN[datatype]
    if count * dtype.itemsize != len(raw):
        raise InvalidInput(
            f"'{name}' has {len(raw)} bytes, but {datatype} of shape {_shown(shape)} "
            f"are {count * dtype.itemsize}",
            field=name,
        )
    if datatype is Datatype.BOOL:
        return Tensor(name, datatype, shaped(np.frombuffer(raw, np.uint8) != 0, shape, name))
    return Tensor(name, datatype, shaped(np.frombuffer(raw, dtype), shape, name))


def shaped(values: Array, shape: Sequence[int], name: str) -> Array:
    """`values` in `shape`, which may still be impossible when there are none."""
    try:
        return values.reshape(tuple(shape))
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"the shape of '{name}' is {_shown(shape)}, which is too large", field=name
        ) from None


def _shown(shape: Sequence[int]) -> str:
    sizes = ", ".join(str(size) for size in shape[:8])
    return f"[{sizes}, ...]" if len(shape) > 8 else f"[{sizes}]"


def _boxed(values: list[Any]) -> Array:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _texts(name: str, raw: bytes | memoryview, count: int) -> list[str]:
    found: list[str] = []
    at, end = 0, len(raw)
    if count * _LENGTH.size > end:
        raise InvalidInput(
            f"'{name}' has {end} bytes, too few for the {count} texts of its shape", field=name
        )
    try:
        while at < end:
            (size,) = _LENGTH.unpack_from(raw, at)
            at += _LENGTH.size
            if at + size > end:
                raise InvalidInput(f"a text of '{name}' ends after its bytes do", field=name)
            found.append(str(raw[at : at + size], "utf-8"))
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
    """The tensor whose elements are `values`, a flat list or rows of rows, as JSON has them.

    None is a missing value. Raises InvalidInput when they are not of that datatype or number.
    """
    count = count_of(shape, name)
    flat, kinds = _flat(name, values)
    if len(flat) != count:
        raise InvalidInput(
            f"'{name}' has {len(flat)} values, but shape {_shown(shape)} is for {count}", field=name
        )
    gaps = _NO_VALUE in kinds
    kinds -= {_NO_VALUE}
    if datatype is Datatype.BYTES:
        if not kinds <= {str}:
            raise _not_of(name, datatype)
        return Tensor(name, datatype, shaped(_boxed(flat), shape, name))
    if gaps and not datatype.is_float:
        numbers = iter(_numbers(name, datatype, [v for v in flat if v is not None], kinds).tolist())
        array = _boxed([None if value is None else next(numbers) for value in flat])
    else:
        present = [math.nan if value is None else value for value in flat] if gaps else flat
        array = _numbers(name, datatype, present, kinds)
    return Tensor(name, datatype, shaped(array, shape, name))


def _numbers(name: str, datatype: Datatype, flat: list[Any], kinds: set[type]) -> Array:
    """Numbers, or booleans, of these Python types as a column."""
    allowed: set[type]
    if datatype is Datatype.BOOL:
        allowed = {bool}
    elif datatype.is_float:
        allowed = {int, float}
    else:
        allowed = {int}
        if float in kinds and all(type(v) is not float or v.is_integer() for v in flat):
            # JSON has writers that make 24.0 of whole numbers.
            flat, kinds = [int(v) if type(v) is float else v for v in flat], kinds - {float} | {int}
    if not kinds <= allowed:
        raise _not_of(name, datatype)
    beyond = InvalidInput(f"'{name}' has values that are out of range for {datatype}", field=name)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, datatype.numpy)
    except OverflowError:
        raise beyond from None
    if datatype.is_float and np.isinf(array).any():
        raise beyond
    return array


def _not_of(name: str, datatype: Datatype) -> InvalidInput:
    return InvalidInput(f"'{name}' has values that are not {datatype}", field=name)


def _flat(name: str, values: Any) -> tuple[list[Any], set[type]]:
    """The elements, and which Python types they have."""
    if not isinstance(values, list):
        raise InvalidInput(f"the data of '{name}' must be an array", field=name)
    flat: list[Any] = values
    for _ in range(_MOST_SIZES):
        kinds = set(map(type, flat))
        if list not in kinds:
            return flat, kinds
        if len(kinds) > 1 or len(set(map(len, flat))) > 1:
            raise InvalidInput(
                f"the data of '{name}' is ragged: its rows differ in length", field=name
            )
        flat = list(chain.from_iterable(flat))
    raise InvalidInput(f"the data of '{name}' is nested too deeply", field=name)


def classified(tensor: Tensor, most: int, labels: Sequence[object] | None) -> Tensor:
    """The classification extension: each row's `most` greatest values, as `value:index[:label]`.

    Raises InvalidInput when they are no numbers.
    """
    if not tensor.datatype.is_numeric:
        raise InvalidInput(
            f"output '{tensor.name}' is {tensor.datatype}, and has no greatest values",
            field=tensor.name,
        )
    rows = tensor.values.reshape(len(tensor.values), -1)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :most]
    known = labels if labels is not None and len(labels) == rows.shape[1] else None
    told = [
        f"{row[at]}:{at}" if known is None else f"{row[at]}:{at}:{known[at]}"
        for row, places in zip(rows.tolist(), order.tolist(), strict=True)
        for at in places
    ]
    return Tensor(tensor.name, Datatype.BYTES, _boxed(told).reshape(order.shape))


def to_raw(tensor: Tensor) -> bytes:
    """The tensor's bytes; missing texts are empty, missing booleans false."""
    return bytes(raw_of(tensor))


def raw_of(tensor: Tensor) -> bytes | memoryview:
    """The same, without a copy where the tensor has them like that."""
    if tensor.datatype is not Datatype.BYTES:
        values = tensor.values.astype(_LITTLE_ENDIAN[tensor.datatype], copy=False)
        if values.size <= _FEW:
            return values.tobytes()
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    parts: list[bytes] = []
    for value in tensor.values.ravel().tolist():
        text = b"" if value is None else str(value).encode()
        parts += (_LENGTH.pack(len(text)), text)
    return memoryview(b"".join(parts))
