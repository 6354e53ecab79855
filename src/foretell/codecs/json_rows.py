"""The JSON rows codec is one signature's decoder and encoder for `/predict` bodies.

Rules:

1. A row is an object by name, or an array in the order of the inputs; `{"features": …}`
   around it is accepted, unless the model has an input of that name.
2. Typed decoders, built once per signature, take what is plainly right. Whatever they
   refuse is decoded again without types and judged by `Signature.accept_row`, which alone
   decides, and knows the words: both agree on every row the typed decoders take.
3. NaN and Infinity are not JSON and are refused; `null` is a missing value. Of duplicate
   keys the last one counts, as in JSON parsers everywhere. Whole floats (24.0) are integers.
4. Answers carry NaN as `null`; infinity never gets this far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Literal

import msgspec

from foretell.codecs.json_bounds import JsonBounds
from foretell.core.batch import Batch, Row
from foretell.core.datatype import Datatype
from foretell.core.field import Field, spoken
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

_astuple = msgspec.structs.astuple
_BULK_ROWS = 64
"""From so many rows on, columns are made at once: below, rows may yet be joined with others."""
_UINT64_IS_TOO_WIDE = 2**63 - 1  # msgspec's integer bounds are signed 64-bit numbers


# What a decoder raises: UnicodeDecodeError comes from text it has to decode, such as keys.
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Quick(msgspec.Struct, gc=False):
    """The `/predict` answer of nearly every model."""

    prediction: Any
    probability: Any
    model_version: str


class _One(msgspec.Struct, gc=False):
    """Any `/predict` answer; what is unset is not written."""

    prediction: Any
    probability: Any
    outputs: Any
    model_version: str
    model_name: Any = msgspec.UNSET
    class_labels: Any = msgspec.UNSET


class _All(msgspec.Struct, gc=False):
    """A `/batch_predict` answer."""

    predictions: Any
    probabilities: Any
    outputs: Any
    model_version: str
    model_name: Any = msgspec.UNSET
    class_labels: Any = msgspec.UNSET


class JsonRows:
    """Decodes requests and encodes answers of one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._flat: msgspec.json.Decoder[Any] | None = None
        self._open: Any = None
        self._wrapped: msgspec.json.Decoder[Any] | None = None
        self._many: msgspec.json.Decoder[Any] | None = None
        types = [_plain_type(field) for field in signature.inputs]
        if None not in types and all(map(_is_plain_name, signature.input_names)):
            self._build_decoders(types)
        self._bounds = JsonBounds(signature)
        self._encode = msgspec.json.Encoder().encode
        self._lay_out_answers()

    def _build_decoders(self, types: list[Any]) -> None:
        names = self.signature.input_names
        fields = [(f"f{i}", kind) for i, kind in enumerate(types)]
        rename = {f"f{i}": name for i, name in enumerate(names)}
        row = msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, gc=False)
        self._open = msgspec.defstruct("Open", fields, rename=rename, gc=False)
        # Built from runtime values, which no type checker can read as a type.
        either: Any = row | tuple.__class_getitem__(tuple(types))
        self._many = msgspec.json.Decoder(_wrapper("instances", list.__class_getitem__(either)))
        self._flat = msgspec.json.Decoder(row)
        if "features" not in names:
            self._wrapped = msgspec.json.Decoder(_wrapper("features", either))

    def _lay_out_answers(self) -> None:
        names = [field.name for field in self.signature.outputs]
        self._prediction = names.index("prediction") if "prediction" in names else None
        self._probabilities = [
            i for i, name in enumerate(names) if name.split("_")[0] == "probability"
        ]
        told = {self._prediction, *self._probabilities}
        self._others = [(i, name) for i, name in enumerate(names) if i not in told]
        # Nearly every model: its prediction, alone or with the probabilities of one target.
        self._quick: Callable[[Row], Row] | None = None
        if self._prediction is not None and not self._others and len(self._probabilities) == 1:
            self._quick = itemgetter(self._prediction, self._probabilities[0])

    def decode_row(self, body: bytes) -> Row:
        """The one row of a `/predict` body, accepted. Raises InvalidInput, TooLarge."""
        try:
            if b'"features"' in body[:24]:
                if self._wrapped is not None:
                    return _as_tuple(self._wrapped.decode(body).inner)
            elif self._flat is not None:
                return _astuple(self._flat.decode(body))
        except _REFUSED:
            pass  # decided, and explained, below
        self._bounds.check(body, max_rows=1)
        return self._judge_row(_untyped(body))

    def accept_told(self, told: dict[str, Any]) -> Row:
        """The row in an object whose other fields are left alone. Raises InvalidInput."""
        if self._open is not None:
            try:
                row: Row = _astuple(msgspec.convert(told, self._open))
            except _REFUSED:
                pass  # decided, and explained, below
            else:
                # other forms than JSON have NaN and infinities
                if all(isfinite(value) for value in row if type(value) is float):
                    return row
        names = self.signature.input_names
        return self.signature.accept_row({name: told[name] for name in names if name in told})

    def decode_rows(self, body: bytes, *, max_rows: int) -> Batch:
        """The rows of a `/batch_predict` body, accepted. Raises InvalidInput, TooLarge."""
        inputs = self.signature.inputs
        self._bounds.check(body, max_rows=max_rows)
        if self._many is not None:
            try:
                found = self._many.decode(body).inner
            except _REFUSED:
                pass  # decided, and explained, below
            else:
                self._check_count(len(found), max_rows)
                if len(found) < _BULK_ROWS:
                    return Batch.from_rows(inputs, [_as_tuple(row) for row in found])
                return Batch.from_values(inputs, len(found), self._by_column(found))
        return Batch.from_accepted(inputs, self._judge_rows(_untyped(body), max_rows))

    def _by_column(self, rows: list[Any]) -> Iterator[Iterable[Any]]:
        """The values of each input; a row is taken apart only when objects and arrays mix."""
        kinds = set(map(type, rows))
        if len(kinds) > 1:
            rows, kinds = [_as_tuple(row) for row in rows], {tuple}
        for place in range(len(self.signature.inputs)):
            getter = itemgetter(place) if kinds == {tuple} else attrgetter(f"f{place}")
            yield map(getter, rows)

    def _judge_row(self, told: object) -> Row:
        if not isinstance(told, dict):
            raise InvalidInput(
                f"the body is {spoken(told)}, but must be an object of the inputs by name, "
                'or {"features": …} around such an object or an array'
            )
        if "features" in told and "features" not in self.signature.input_names:
            inner = told["features"]
            extra = next((name for name in told if name != "features"), None)
            if extra is not None:
                raise InvalidInput(f"unknown field {spoken(extra)} next to 'features'", field=extra)
            if not isinstance(inner, dict | list):
                raise InvalidInput(
                    f"'features' is {spoken(inner)}, but must be an object or an array",
                    field="features",
                )
            return self.signature.accept_row(inner)
        return self.signature.accept_row(told)

    def _judge_rows(self, told: object, max_rows: int) -> list[Row]:
        if not isinstance(told, dict) or "instances" not in told:
            raise InvalidInput('the body must be an object {"instances": [row, …]}')
        extra = next((name for name in told if name != "instances"), None)
        if extra is not None:
            raise InvalidInput(f"unknown field {spoken(extra)} next to 'instances'", field=extra)
        rows = told["instances"]
        if not isinstance(rows, list):
            raise InvalidInput(
                f"'instances' is {spoken(rows)}, but must be an array of rows", field="instances"
            )
        self._check_count(len(rows), max_rows)
        accepted = []
        for number, row in enumerate(rows):
            if not isinstance(row, dict | list):
                raise InvalidInput(
                    f"row {number}: is {spoken(row)}, but must be an object or an array", row=number
                )
            try:
                accepted.append(self.signature.accept_row(row))
            except InvalidInput as error:
                raise error.at_row(number) from None
        return accepted

    def _check_count(self, count: int, max_rows: int) -> None:
        if count == 0:
            raise InvalidInput("'instances' is empty; send at least one row", field="instances")
        if count > max_rows:
            raise TooLarge(f"{count} rows in one request, but the limit is {max_rows}; send fewer")

    def encode_row(self, outputs: Batch, version: str, *, model: str | None = None) -> bytes:
        """The `/predict` answer for one row of outputs of `version`.

        It names `model` and the class labels, too, when `model` is given.
        """
        (row,) = outputs.rows
        if self._quick is not None and model is None:
            prediction, probability = self._quick(row)
            return self._encode(_Quick(prediction, probability, version))
        return self._encode(_One(*self._parts(row), version, *self._verbose(model)))

    def encode_rows(self, outputs: Batch, version: str, *, model: str | None = None) -> bytes:
        """The `/batch_predict` answer for all rows of outputs, else like `encode_row`."""
        columns = [column.tolist() for column in outputs.columns]
        parts = self._parts(columns, by_row=True)
        return self._encode(_All(*parts, version, *self._verbose(model)))

    def _verbose(self, model: str | None) -> tuple[Any, Any]:
        labels = self.signature.class_labels
        if model is None or labels is None:
            return model or msgspec.UNSET, msgspec.UNSET
        return model, labels

    def _parts(self, values: Sequence[Any], *, by_row: bool = False) -> tuple[Any, Any, Any]:
        """What an answer begins with, of one row's values or of columns."""
        more = self._others if self._prediction is not None else ()
        return (
            self._predicted(values),
            self._grouped(values, by_row=by_row) if self._probabilities else msgspec.UNSET,
            {name: values[i] for i, name in more} if more else msgspec.UNSET,
        )

    def _predicted(self, values: Sequence[Any]) -> Any:
        """The output called `prediction`; without one: the only output, or all by name."""
        if self._prediction is not None:
            return values[self._prediction]
        if len(self._others) == 1:
            return values[self._others[0][0]]
        return {name: values[i] for i, name in self._others}

    def _grouped(self, values: Sequence[Any], *, by_row: bool) -> Any:
        """One target's probabilities; of several targets, a list of them (for each row)."""
        parts = [values[i] for i in self._probabilities]
        if len(parts) == 1:
            return parts[0]
        return [list(row) for row in zip(*parts, strict=True)] if by_row else parts


def _as_tuple(row: Any) -> Row:
    return row if type(row) is tuple else _astuple(row)


def _untyped(body: bytes) -> object:
    if not body.strip():
        raise InvalidInput("the body is empty; send a JSON object")
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None


def _is_plain_name(name: str) -> bool:
    """Whether msgspec takes `name` as a struct's key: it reads keys without their escapes."""
    return not set(name) & set('"\\') and min(name) >= " "


def _wrapper(key: str, inner: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        "Body", [("inner", inner)], rename={"inner": key}, forbid_unknown_fields=True, gc=False
    )


def _plain_type(field: Field) -> Any:
    """The msgspec type that takes only values `field.accept` leaves as they are, or None."""
    kind: Any
    if field.shape or (field.closed and field.datatype is not Datatype.BYTES):
        return None
    if field.datatype is Datatype.BOOL:
        kind = bool
    elif field.datatype is Datatype.BYTES:
        kind = Literal.__getitem__(field.categories) if field.closed else str
    else:
        low, high = field.bounds
        if field.datatype.is_integer:
            if high > _UINT64_IS_TOO_WIDE:
                return None
            kind = Annotated[int, msgspec.Meta(ge=int(low), le=int(high))]
        elif field.datatype is Datatype.FP64 and (field.minimum, field.maximum) == (None, None):
            kind = float
        else:
            kind = Annotated[float, msgspec.Meta(ge=low, le=high)]
    return kind | None if field.nullable else kind
