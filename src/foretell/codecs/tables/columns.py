"""Columns are named arrays of one length: how tables of every kind become accepted rows.

Rules:

1. A table has one column for each input of the signature, in any order, and no other.
2. Columns are judged by `Field.accept_column`: no number is made of text here.
3. In a table without arrays (CSV) a shaped field is one column for each of its elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import Array, Field, Scalar, spoken
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge


def check_names(signature: Signature, names: Sequence[str]) -> None:
    """Raise InvalidInput unless `names` are those of the inputs, each once, in any order."""
    known = set(signature.input_names)
    seen: set[str] = set()
    for name in names:
        if name not in known:
            raise InvalidInput(f"there is no input {name!r}; leave the column out", field=name)
        if name in seen:
            raise InvalidInput(f"two columns are called {name!r}; send one", field=name)
        seen.add(name)
    for name in signature.input_names:
        if name not in seen:
            raise InvalidInput(f"column {name!r} is missing", field=name)


def check_count(n_rows: int, max_rows: int | None) -> None:
    """Raise InvalidInput for no rows, TooLarge for more than `max_rows`."""
    if n_rows == 0:
        raise InvalidInput("there are no rows; give at least one")
    if max_rows is not None and n_rows > max_rows:
        raise too_many(n_rows, max_rows)


def too_many(n_rows: int | str, max_rows: int) -> TooLarge:
    """What is said of a table over the limit."""
    return TooLarge(f"{n_rows} rows in one request, but the limit is {max_rows}; send fewer")


def accepted(
    signature: Signature, columns: Mapping[str, Array], *, max_rows: int | None = None
) -> Batch:
    """The rows of `columns`, accepted. Raises InvalidInput with field and row, TooLarge."""
    check_names(signature, tuple(columns))
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        told = ", ".join(map(str, sorted(lengths)))
        raise InvalidInput(f"the columns have different numbers of rows: {told}")
    check_count(lengths.pop(), max_rows)
    return Batch.from_columns(
        signature.inputs,
        [field.accept_column(columns[field.name]) for field in signature.inputs],
    )


def flat_columns(
    batch: Batch, labels: Mapping[str, Sequence[Scalar]] | None = None
) -> dict[str, Array]:
    """The columns of `batch` by name; of a shaped field one for each element.

    `labels` name the elements of a vector: `probability_low` is better than `probability_1`.
    """
    told: dict[str, Array] = {}
    for field, column in zip(batch.fields, batch.columns, strict=True):
        shape = column.shape[1:]
        own = (labels or {}).get(field.name, ())
        names = [f"{field.name}_{_word(label)}" for label in own]
        if shape != (len(names),) or len(set(names)) < len(names):
            names = element_names(field.name, shape)
        flat = column.reshape(len(column), -1)
        told |= {name: flat[:, place] for place, name in enumerate(names)}
    return told


def element_names(name: str, shape: Sequence[int]) -> list[str]:
    """The columns of a field called `name`: itself, or `x_0`, `x_1_0` for shaped ones."""
    places = product(*map(range, shape))
    return ["_".join((name, *map(str, place))) for place in places]


def flat_names(fields: Iterable[Field]) -> dict[str, list[str]]:
    """The columns of each field in a table without arrays. Raises InvalidInput.

    It cannot be told of a field that may have any size.
    """
    told = {}
    for field in fields:
        if -1 in field.shape:
            raise InvalidInput(
                f"'{field.name}' is {field.expected}, which no CSV can hold; "
                "send JSON, NDJSON, Arrow or Parquet",
                field=field.name,
            )
        told[field.name] = element_names(field.name, field.shape)
    return told


def _word(label: Scalar) -> str:
    return label if isinstance(label, str) else spoken(label)


def boxed(values: Sequence[object]) -> Array:
    """A column of any Python values, whatever they are."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
