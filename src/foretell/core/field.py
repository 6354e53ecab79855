"""A field is one named, typed column of inputs or outputs, and the judge of its values.

Rules:

1. Datatypes are those of the Open Inference Protocol. Text is `BYTES`.
2. A field's `shape` is the shape of one row: `()` is a scalar, `(30,)` a vector, -1 any size.
   The protocol's shape is that with the batch dimension in front.
3. A missing value is NaN in floating-point fields and None in `BYTES` and `BOOL` fields.
   Integers have no missing value: such a column is a floating-point one.
4. `Field.accept` is the one rule of which single values are allowed; `Field.accept_column`
   is the same rule for an array. Every door ends in one of the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from foretell.core.datatype import Datatype
from foretell.core.described import (
    as_bool,
    as_list,
    as_number,
    as_object,
    as_scalar,
    as_text,
    as_whole,
)
from foretell.errors import BadPackage, InvalidInput

Array = npt.NDArray[Any]
Scalar = bool | int | float | str
"""A single value of a field, as plain Python."""


_KINDS: dict[Datatype, type] = {Datatype.BOOL: bool, Datatype.BYTES: str}

_EXPECTED = {Datatype.BOOL: "true or false", Datatype.BYTES: "a string"}


def spoken(value: object) -> str:
    """A value as an error message shows it: JSON's words, cut at 60 characters."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            text = f'"{value}"'
        case Mapping():
            return "an object"
        case list() | tuple():
            return f"an array of {len(value)}"
        case _:
            text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, slots=True)
class Field:
    """One named column of inputs or outputs.

    `shape` is per row. `categories` lists the values seen in training; with `closed` no
    other is accepted. `minimum` and `maximum` bound numbers more tightly than the datatype
    does. Raises ValueError when the parts contradict one another.
    """

    name: str
    datatype: Datatype
    _: KW_ONLY
    shape: tuple[int, ...] = ()
    nullable: bool = False
    categories: tuple[Scalar, ...] | None = None
    closed: bool = False
    minimum: float | None = None
    maximum: float | None = None
    _choices: frozenset[Scalar] = field(init=False, repr=False, compare=False)
    """The categories, found at once however many there are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_choices", frozenset(self.categories or ()))
        if not self.name:
            raise ValueError("a field needs a name")
        object.__setattr__(self, "datatype", Datatype(self.datatype))
        if any(size < -1 or size == 0 for size in self.shape):
            raise ValueError(f"field {self.name!r}: shape {self.shape} has an impossible size")
        if self.nullable and self.datatype.is_integer:
            raise ValueError(f"field {self.name!r}: integers have no missing value, use FP64")
        if self.closed and not self.categories:
            raise ValueError(f"field {self.name!r}: closed, but no categories are given")
        if not self.datatype.is_numeric and (self.minimum, self.maximum) != (None, None):
            raise ValueError(f"field {self.name!r}: only numbers have bounds")

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and greatest number accepted: the datatype's, or tighter ones."""
        low, high = self.datatype.limits
        return (
            low if self.minimum is None else max(low, self.minimum),
            high if self.maximum is None else min(high, self.maximum),
        )

    @property
    def expected(self) -> str:
        """What this field takes, in words: `a number`, `a string or null`, …"""
        one = _EXPECTED.get(self.datatype) or (
            "a whole number" if self.datatype.is_integer else "a number"
        )
        if self.shape:
            sizes = " x ".join("any" if size < 0 else str(size) for size in self.shape)
            one = f"an array of {sizes} values, each {one}"
        return f"{one} or null" if self.nullable else one

    def accept(self, value: object) -> Any:
        """The plain Python value (or array, for a shaped field) that stands for `value`.

        Whole floats are accepted as integers, integers as floats; nothing else is
        converted: no numbers from text, no numbers from booleans. Missing (None or NaN)
        becomes NaN or None. Raises InvalidInput, naming the field.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if self.shape:
            return self._accept_tensor(value)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            if not self.nullable:
                raise self._refused(value)
            return math.nan if self.datatype.is_float else None
        if self.datatype is Datatype.BOOL:
            if not isinstance(value, bool):
                raise self._refused(value)
        elif self.datatype is Datatype.BYTES:
            if not isinstance(value, str):
                raise self._refused(value)
        else:
            value = self._accept_number(value)
        if self.closed and value not in self._choices:
            raise InvalidInput(
                f"'{self.name}' is {spoken(value)}, but must be one of {self._listed()}",
                field=self.name,
            )
        return value

    def _accept_number(self, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(value)
        low, high = self.bounds
        if not low <= value <= high:
            raise InvalidInput(
                f"'{self.name}' is {spoken(value)}, but must be between {low} and {high}",
                field=self.name,
            )
        if not self.datatype.is_integer:
            return float(value)
        if isinstance(value, float) and not value.is_integer():
            raise self._refused(value)
        return int(value)

    def _accept_tensor(self, value: object) -> Array:
        if isinstance(value, np.ndarray):
            only: Array = self.accept_column(value[np.newaxis])[0]
            return only
        leaf = Field(
            self.name,
            self.datatype,
            nullable=self.nullable,
            categories=self.categories,
            closed=self.closed,
            minimum=self.minimum,
            maximum=self.maximum,
        )

        def walk(part: object, depth: int) -> object:
            if depth == len(self.shape):
                return leaf.accept(part)
            if not isinstance(part, list | tuple):
                raise self._refused(value)
            if self.shape[depth] not in (-1, len(part)):
                raise self._refused(value)
            return [walk(inner, depth + 1) for inner in part]

        try:
            array = np.asarray(walk(value, 0), dtype=self.datatype.numpy)
        except ValueError:
            raise self._refused(value) from None
        if not self.fits(array.shape):  # ragged texts become an array of lists
            raise self._refused(value)
        return array

    def accept_column(self, column: Array) -> Array:
        """The column in this field's dtype, for `column` of shape (n, *shape).

        The rule of `accept`, over an array. Raises InvalidInput with field and row.
        """
        if not self.fits(column.shape[1:]):
            raise InvalidInput(
                f"'{self.name}' has rows of shape {column.shape[1:]}, but needs {self.shape}",
                field=self.name,
            )
        numeric = self.datatype.is_numeric and column.dtype.kind in "iuf"
        if numeric and not self.closed:
            return self._accept_numbers(column)
        if column.dtype.kind == "b" and self.datatype is Datatype.BOOL:
            return column
        if column.dtype.kind == "O" and self._takes_all(column):
            return column if self._is_boxed else column.astype(self.datatype.numpy)
        scalar = replace(self, shape=()) if self.shape else self
        accepted = np.empty(column.shape, dtype=object)
        for place in np.ndindex(column.shape):
            try:
                accepted[place] = scalar.accept(column[place])
            except InvalidInput as error:
                raise error.at_row(place[0]) from None
        return accepted if self._is_boxed else accepted.astype(self.datatype.numpy)

    @property
    def _is_boxed(self) -> bool:
        """Whether a column of it is an object array."""
        return self.datatype is Datatype.BYTES or (self.nullable and not self.datatype.is_float)

    def _takes_all(self, column: Array) -> bool:
        """Whether these are texts or booleans that `accept` would leave as they are."""
        kind = _KINDS.get(self.datatype)
        if kind is None:
            return False
        values = column.ravel().tolist()
        kinds = set(map(type, values)) - ({type(None)} if self.nullable else set())
        if kinds - {kind}:
            return False
        return not self.closed or set(values) - {None} <= self._choices

    def _accept_numbers(self, column: Array) -> Array:
        low, high = self.bounds
        whole = column.dtype.kind in "iu" and self.datatype is not Datatype.FP16
        if (low, high) == self.datatype.limits and (whole or column.dtype == self.datatype.numpy):
            with np.errstate(over="ignore", invalid="ignore"):  # quicker than to look at each one
                if self.datatype.is_float and math.isfinite(column.sum()):
                    return column.astype(self.datatype.numpy, copy=False)
        # As float64: beside a narrower column, a bound beyond that column's range is infinity.
        wide = (np.float64(low), np.float64(high)) if column.dtype.kind == "f" else (low, high)
        with np.errstate(invalid="ignore"):
            good = (column >= wide[0]) & (column <= wide[1])
            if self.datatype.is_integer and column.dtype.kind == "f":
                good &= column == np.floor(column)
                if float(high) > high:  # as numpy compares: the nearest float is out of range
                    good &= column < wide[1]
        if self.nullable:
            good |= np.isnan(column)
        if not good.all():
            place = tuple(int(at) for at in np.unravel_index(np.argmin(good), good.shape))
            try:
                replace(self, shape=()).accept(column[place])
            except InvalidInput as error:
                raise error.at_row(place[0]) from None
        return column.astype(self.datatype.numpy, copy=False)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether one row may have `shape`."""
        return shape == self.shape or (
            len(shape) == len(self.shape)
            and all(want in (-1, have) for want, have in zip(self.shape, shape, strict=True))
        )

    def _refused(self, value: object) -> InvalidInput:
        return InvalidInput(
            f"'{self.name}' is {spoken(value)}, but must be {self.expected}", field=self.name
        )

    def _listed(self) -> str:
        known = [spoken(value) for value in self.categories or ()]
        return ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")

    def describe(self) -> dict[str, Any]:
        """This field as JSON-ready data; defaults are left out."""
        told: dict[str, Any] = {"name": self.name, "datatype": self.datatype.value}
        if self.shape:
            told["shape"] = list(self.shape)
        if self.nullable:
            told["nullable"] = True
        if self.categories is not None:
            told["categories"] = list(self.categories)
            told["closed"] = self.closed
        for key in ("minimum", "maximum"):
            if (bound := getattr(self, key)) is not None:
                told[key] = bound
        return told

    @classmethod
    def from_description(cls, told: Mapping[str, Any]) -> Field:
        """The field that `describe` told of. Raises BadPackage."""
        what = "a field of the signature"
        known = ("shape", "nullable", "categories", "closed", "minimum", "maximum")
        told = as_object(told, what, ("name", "datatype"), known)
        name = as_text(told["name"], f"the name of {what}")
        what = f"field {name!r} of the signature"
        read: dict[str, Any] = {}
        for key in told.keys() & {"nullable", "closed"}:
            read[key] = as_bool(told[key], f"{key!r} of {what}")
        for key in told.keys() & {"minimum", "maximum"}:
            read[key] = as_number(told[key], f"{key!r} of {what}")
        if "shape" in told:
            sizes = as_list(told["shape"], f"the shape of {what}")
            read["shape"] = tuple(as_whole(size, f"the shape of {what}") for size in sizes)
        if "categories" in told:
            values = as_list(told["categories"], f"the categories of {what}")
            read["categories"] = tuple(as_scalar(v, f"a category of {what}") for v in values)
        try:
            field = cls(name, Datatype(as_text(told["datatype"], what)), **read)
            for value in field.categories or ():
                Field(name, field.datatype).accept(value)
        except (ValueError, InvalidInput) as error:
            raise BadPackage(f"{what} is unreadable: {error}") from error
        return field


def dense_datatype(fields: Sequence[Field]) -> Datatype | None:
    """The one numeric datatype of all `fields`, when each is a scalar of it; else None.

    Such fields form a matrix, the fast case.
    """
    if not fields:
        return None
    first = fields[0].datatype
    if first.is_numeric and all(f.datatype is first and not f.shape for f in fields):
        return first
    return None
