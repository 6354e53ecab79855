"""A sheet is what a step takes in a graph: one tensor of numbers, or named columns of any kind.

It stands for the table (array or DataFrame) that the original's step gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.packing.compiling.drawing.graph import Graph, Origin, Tensor, Unfaithful
from foretell.runtimes.tables import TableForm

NUMBERS, CODES = "numbers", "codes"


@dataclass(frozen=True, slots=True)
class Sheet:
    """Tensors side by side; `names` and `categories` have an entry a column.

    `missing_is_nan` says what a missing text is in the original's table: NaN, else None.
    """

    parts: tuple[Tensor, ...]
    names: tuple[str, ...]
    missing_is_nan: bool = True
    categorical: frozenset[str] = frozenset()

    @property
    def is_matrix(self) -> bool:
        return len(self.parts) == 1 and not self.parts[0].is_text

    @property
    def width(self) -> int:
        return sum(part.width for part in self.parts)

    def column(self, graph: Graph, place: int) -> Tensor:
        """The one column at `place`, [N, 1]."""
        for part in self.parts:
            if place < part.width:
                return graph.pick(part, [place])
            place -= part.width
        raise Unfaithful("a step asks for a column that is not there")

    def select(self, graph: Graph, places: Sequence[int]) -> Sheet:
        """The columns at `places`; neighbours in one tensor stay together."""
        names = tuple(self.names[place] for place in places)
        if self.is_matrix:
            parts: tuple[Tensor, ...] = (graph.pick(self.parts[0], places),)
        else:
            parts = tuple(self.column(graph, place) for place in places)
        return Sheet(parts, names, self.missing_is_nan, self.categorical)

    def matrix(self, graph: Graph) -> Tensor:
        """All columns as one tensor of their common dtype. Raises Unfaithful for texts."""
        for part in self.parts:
            if part.is_text:
                raise Unfaithful("a step takes texts as numbers")
        dtype = np.result_type(*(part.dtype for part in self.parts))
        return graph.join([graph.cast(part, dtype) for part in self.parts])


def matrix_sheet(tensor: Tensor) -> Sheet:
    """A sheet of one tensor, its columns unnamed."""
    return Sheet((tensor,), ("",) * tensor.width)


def first_sheet(graph: Graph, signature: Signature, form: TableForm) -> Sheet:
    """The graph's inputs as the original's table: declared in `graph`, cast back to its dtypes.

    A dense signature is one input [N, k] of its datatype; any other has `numbers`, float64, and
    `codes` of texts, each in the order of the fields (layout `coded`). Raises Unfaithful.
    """
    fields = signature.inputs
    names = tuple(field.name for field in fields)
    places = {name: place for place, name in enumerate(names)}
    if form.kind == "texts" or any(field.shape for field in fields):
        raise Unfaithful("it takes texts or arrays, not columns")
    if signature.dense is not None:
        dtype = signature.dense.numpy
        origins = tuple(Origin(place) for place in range(len(fields)))
        graph.input(NUMBERS, dtype, len(fields))
        return Sheet((Tensor(NUMBERS, dtype, origins),), names)
    numeric = [field for field in fields if field.datatype is not Datatype.BYTES]
    texts = [field for field in fields if field.datatype is Datatype.BYTES]
    columns: dict[str, Tensor] = {}
    if numeric:
        graph.input(NUMBERS, np.dtype(np.float64), len(numeric))
        behind = tuple(Origin(places[field.name]) for field in numeric)
        whole = Tensor(NUMBERS, np.dtype(np.float64), behind)
        if not texts and form.kind != "frame":
            common = np.result_type(*(_dtype(field) for field in fields))
            return Sheet((graph.cast(whole, common),), names)
        for place, field in enumerate(numeric):
            columns[field.name] = graph.cast(graph.pick(whole, [place]), _dtype(field))
    if texts:
        coded = graph.texts(CODES, len(texts))
        for place, field in enumerate(texts):
            columns[field.name] = graph.pick(coded, [place])
    return Sheet(
        tuple(columns[name] for name in names),
        names,
        form.marker is not None,
        frozenset(form.categorical),
    )


def _dtype(field: Field) -> np.dtype[Any]:
    """Of a column in the original's arithmetic; a boolean that may be missing is 0, 1 or NaN."""
    boxed = field.datatype is Datatype.BOOL and field.nullable
    return np.dtype(np.float64) if boxed else field.datatype.numpy
