"""A signature is what a model takes and gives: its fields, its classes, and an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from foretell.core.datatype import Datatype
from foretell.core.described import as_list, as_object, as_scalar
from foretell.core.field import Field, Scalar, dense_datatype, spoken
from foretell.errors import BadPackage, InvalidInput


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes (`inputs`) and gives (`outputs`).

    `class_labels` are a classifier's classes in the order of its probabilities; a
    multi-output classifier has one tuple of labels for each target. `example` is one row
    that the model answers, in the order of `inputs`, as plain Python values. Raises
    ValueError when two fields share a name or the example does not fit.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    _: KW_ONLY
    class_labels: tuple[Scalar, ...] | tuple[tuple[Scalar, ...], ...] | None = None
    example: tuple[Any, ...] | None = None
    input_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    dense: Datatype | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for side, fields in (("input", self.inputs), ("output", self.outputs)):
            names = [f.name for f in fields]
            if not names:
                raise ValueError(f"a signature needs at least one {side}")
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {side}s are called {twice[0]!r}")
        if self.example is not None and len(self.example) != len(self.inputs):
            raise ValueError(
                f"the example has {len(self.example)} values for {len(self.inputs)} inputs"
            )
        object.__setattr__(self, "input_names", tuple(f.name for f in self.inputs))
        object.__setattr__(self, "dense", dense_datatype(self.inputs))

    def accept_row(self, row: Mapping[str, object] | Sequence[object]) -> tuple[Any, ...]:
        """One row, given by name or in order, as a tuple in the order of the inputs.

        Raises InvalidInput naming the field: missing, unknown, or refused by `Field.accept`.
        """
        if isinstance(row, Mapping):
            for name in row:
                if name not in self.input_names:
                    raise InvalidInput(
                        f"unknown field {spoken(name)}; the inputs are {self._listed()}",
                        field=str(name),
                    )
            for name in self.input_names:
                if name not in row:
                    raise InvalidInput(f"field '{name}' is missing", field=name)
            return tuple(f.accept(row[f.name]) for f in self.inputs)
        if len(row) != len(self.inputs):
            raise InvalidInput(
                f"the row has {len(row)} values, but the model takes {len(self.inputs)}: "
                f"{self._listed()}"
            )
        return tuple(f.accept(value) for f, value in zip(self.inputs, row, strict=True))

    def _listed(self) -> str:
        known = ", ".join(self.input_names[:12])
        rest = len(self.input_names) - 12
        return f"{known} and {rest} more" if rest > 0 else known

    def describe(self) -> dict[str, Any]:
        """This signature as JSON-ready data (the manifest and `GET /models/{name}`)."""
        return {
            "inputs": [f.describe() for f in self.inputs],
            "outputs": [f.describe() for f in self.outputs],
            "class_labels": self.class_labels,
            "example": self.example,
        }

    @classmethod
    def from_description(cls, told: Mapping[str, Any]) -> Signature:
        """The signature that `describe` told of. Raises BadPackage."""
        keys = ("class_labels", "example")
        told = as_object(told, "the signature", ("inputs", "outputs"), keys)
        sides = [
            tuple(map(Field.from_description, as_list(told[side], f"{side!r} of the signature")))
            for side in ("inputs", "outputs")
        ]
        labels, example = told.get("class_labels"), told.get("example")
        if example is not None:
            example = tuple(as_list(example, "the example of the signature"))
        try:
            signature = cls(*sides, class_labels=_labels(labels), example=example)
            if example is not None:
                signature.accept_row(example)
        except ValueError as error:
            raise BadPackage(f"the signature is unreadable: {error}") from error
        except InvalidInput as error:
            raise BadPackage(f"the example of the signature does not fit: {error}") from error
        return signature


def _labels(told: object) -> tuple[Scalar, ...] | tuple[tuple[Scalar, ...], ...] | None:
    """Class labels as `describe` tells of them. Raises BadPackage."""
    if told is None:
        return None
    labels = as_list(told, "'class_labels' of the signature")
    if labels and all(isinstance(part, list | tuple) for part in labels):
        return tuple(tuple(as_scalar(label, "a class label") for label in part) for part in labels)
    return tuple(as_scalar(label, "a class label") for label in labels)
