"""A tree table is the trees of an ensemble as plain arrays, one node after the other.

Rules:

1. Tree `k` has the nodes `first[k]` to `first[k + 1]`, its root first. The children of an inner
   node lie side by side, behind it: `link` is the left one. A row goes there when its value of
   `column` is `<= split`, or is missing and `missing_left` says so, or, where `sets` is not -1,
   when it is a member of that set.
2. A leaf has `column` -1; its `link` is the place of its values in `values`. It adds `width[k]`
   of them to the targets from `target[k]` on. Sums begin with `start` and are made in the order
   of the trees, in the dtype of `values`.
3. A set is its number of words in `words`, and then those: bit b of word w is the value 64 w + b.
4. `single` says that columns may be compared as float32 numbers, with each split rounded down.
5. The file is numpy's `.npz`, read without pickles, and what could lead out of the arrays is
   refused: compiled code does not look where it reads.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields

import numpy as np

from foretell.core.field import Array
from foretell.errors import BadPackage

_DTYPES = {
    "first": "i8",
    "column": "i4",
    "split": "f8",
    "link": "i4",
    "missing_left": "b1",
    "sets": "i4",
    "words": "u8",
    "target": "i4",
    "width": "i4",
}


@dataclass(frozen=True, slots=True, eq=False)
class TreeTable:
    """The arrays of an ensemble; see the module's rules."""

    first: Array
    column: Array
    split: Array
    link: Array
    missing_left: Array
    sets: Array
    words: Array
    target: Array
    width: Array
    values: Array
    start: Array
    n_columns: int
    single: bool

    @property
    def n_trees(self) -> int:
        return len(self.target)

    @property
    def n_targets(self) -> int:
        return len(self.start)

    def to_bytes(self) -> bytes:
        """As a file holds it."""
        made = io.BytesIO()
        parts = {part.name: np.asarray(getattr(self, part.name)) for part in fields(self)}
        np.savez_compressed(made, allow_pickle=False, **parts)
        return made.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> TreeTable:
        """The table in a file called `name`. Raises BadPackage saying what is wrong with it."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                parts = {part.name: file[part.name] for part in fields(cls)}
            table = cls(
                **{key: np.asarray(parts.pop(key), dtype) for key, dtype in _DTYPES.items()},
                n_columns=int(parts.pop("n_columns")),
                single=bool(parts.pop("single")),
                **parts,
            )
            wrong = _wrong(table)
        except Exception as error:  # a damaged file may raise anything
            raise BadPackage(f"{name} holds no readable trees: {error}") from error
        if wrong is not None:
            raise BadPackage(f"{name} holds no usable trees: {wrong}")
        return table


def _wrong(table: TreeTable) -> str | None:
    """What would lead a reader of the table out of its arrays."""
    n_nodes, first = len(table.column), table.first
    of_nodes = (table.split, table.link, table.missing_left, table.sets)
    if any(part.shape != (n_nodes,) for part in of_nodes):
        return "its nodes differ in number"
    if table.width.shape != table.target.shape or len(first) != table.n_trees + 1:
        return "its trees differ in number"
    if not n_nodes or first[0] != 0 or first[-1] != n_nodes or (np.diff(first) < 1).any():
        return "its trees are not one behind the other"
    if table.values.dtype not in (np.float32, np.float64) or table.values.ndim != 1:
        return "its values are not numbers"
    if table.start.dtype != table.values.dtype or not table.n_targets:
        return "its sums do not begin with a number"
    if (table.target < 0).any() or (table.width < 1).any():
        return "a tree has no target"
    if (table.target.astype(np.int64) + table.width > table.n_targets).any():
        return "a tree adds to a target that there is not"
    tree = np.repeat(np.arange(table.n_trees), np.diff(first))
    leaf, link = table.column < 0, table.link.astype(np.int64)
    if (table.column >= table.n_columns).any() or np.isnan(table.split[~leaf]).any():
        return "a node compares nothing"
    inner = np.flatnonzero(~leaf)
    if (link[inner] <= inner).any() or (link[inner] + 1 >= first[tree[inner] + 1]).any():
        return "a node has no children"
    if (link[leaf] < 0).any() or (link[leaf] + table.width[tree[leaf]] > len(table.values)).any():
        return "a leaf has no value"
    return _wrong_sets(table, table.sets[~leaf])


def _wrong_sets(table: TreeTable, sets: Array) -> str | None:
    known = sets[sets >= 0].astype(np.int64)
    if known.size:
        if known.max() >= len(table.words):
            return "a node asks for a set that there is not"
        if (table.words[known] > len(table.words) - known - 1).any():
            return "a set leads out of the words"
    return None
