"""A layout is a tree table as the kernel reads it: packed for the processor's caches.

Rules:

1. A column is loaded once for all nodes that send NaN to the right, where it compares so, and
   once more, NaN made -inf, for those that send it to the left. No node asks for NaN then.
2. A node is a split and a link in 8 bytes, where splits may be float32 numbers, else in 16. A
   tree's nodes are counted from 1: a leaf leads to the node before it and one to the right.
3. Where there are sets, splits are float64 numbers: few models have them.
"""

from __future__ import annotations

import numpy as np

from foretell.core.field import Array
from foretell.errors import BadPackage
from foretell.runtimes.trees.kernel import COLUMN_BITS, MEMBERS, SHALLOW, WALKED, Packed
from foretell.runtimes.trees.table import TreeTable

_LEVELS = 3
_MOST_SHORT_NODES = (1 << (32 - COLUMN_BITS)) - 2
_BLOCK_BYTES = 64 * 1024
_LEAST_ROWS, _MOST_ROWS = 64, 512


def block_rows(packed: Packed) -> int:
    """How many rows of its columns and sums, a power of two, stay in the caches."""
    size = packed.split.itemsize * len(packed.used) * 2 + packed.start.itemsize * len(packed.start)
    rows = _MOST_ROWS
    while rows > _LEAST_ROWS and rows * size > _BLOCK_BYTES:
        rows //= 2
    return rows


def packed(table: TreeTable) -> Packed:
    """`table` as the kernel reads it. Raises BadPackage when it compares too many columns."""
    n_trees, n_nodes = table.n_trees, len(table.column)
    sizes = np.diff(table.first)
    tree = np.repeat(np.arange(n_trees), sizes)
    inner = table.column >= 0
    asks = inner & (table.sets >= 0)
    short = table.single and not asks.any() and int(sizes.max()) <= _MOST_SHORT_NODES
    dtype, whole = (np.float32, np.uint32) if short else (np.float64, np.uint64)

    used, column = _columns(table, inner, asks)
    split = np.full(n_nodes, np.nan, dtype)
    split[inner] = _rounded_down(table.split[inner]) if short else table.split[inner]
    place = np.arange(n_nodes) + tree + 1  # each tree has a node in front that none leads to
    base = table.first[:-1] + np.arange(n_trees)
    ahead = place - 1
    ahead[inner] = table.link[inner] + tree[inner] + 1
    nodes = np.zeros(2 * (n_nodes + n_trees), dtype)
    link = nodes.view(whole)
    nodes[2 * place] = split
    link[2 * place + 1] = ((ahead - base[tree]) << COLUMN_BITS) | column
    leaf = np.zeros(n_nodes + n_trees, np.int32)
    leaf[place] = np.where(inner, 0, table.link)
    sets = np.full(n_nodes + n_trees if asks.any() else 0, -1, np.int32)
    if asks.any():
        sets[place[asks]] = table.sets[asks] * 2 + table.missing_left[asks]

    with_sets = np.zeros(n_trees, bool)
    with_sets[tree[asks]] = True
    depth = _depths(table, tree, inner) - _LEVELS
    kind = np.where((depth <= 0) & (table.width == 1), SHALLOW, WALKED)
    kind[with_sets] = MEMBERS
    heap = _heap(table, inner)
    leaves = np.where(inner[heap[:, 7:]], 0, table.link[heap[:, 7:]])
    return Packed(
        used=(used >> 1).astype(np.int32),
        missing_left=(used & 1).astype(bool),
        kind=kind.astype(np.uint8),
        base=base,
        depth=np.maximum(depth, 0).astype(np.int32),
        target=table.target,
        width=table.width,
        top_column=np.ascontiguousarray(column[heap[:, :7]]),
        top_split=np.ascontiguousarray(split[heap[:, :7]]),
        entry=(heap[:, 7:] - table.first[:-1, None] + 1).astype(np.uint32),
        shallow=np.ascontiguousarray(table.values[leaves]),
        split=nodes,
        link=link,
        leaf=leaf,
        sets=sets,
        words=table.words,
        values=table.values,
        start=table.start,
    )


def _columns(table: TreeTable, inner: Array, asks: Array) -> tuple[Array, Array]:
    """The columns to load, each times two and one more for NaN to the left; and every node's."""
    pairs = table.column.astype(np.int64) * 2 + (table.missing_left & ~asks)
    used, spot = np.unique(pairs[inner], return_inverse=True)
    if len(used) > 1 << COLUMN_BITS:
        raise BadPackage(f"its trees compare more than {1 << COLUMN_BITS} columns")
    column = np.zeros(len(inner), np.int64)
    column[inner] = spot
    # leaves look at a column, too, even where there are no others
    return used if len(used) else np.zeros(1, np.int64), column


def _rounded_down(splits: Array) -> Array:
    """The greatest float32 numbers that are not above `splits`."""
    with np.errstate(over="ignore"):
        single = splits.astype(np.float32)
    return np.where(single > splits, np.nextafter(single, np.float32(-np.inf)), single)


def _heap(table: TreeTable, inner: Array) -> Array:
    """[n_trees, 15]: the nodes of the first levels, in the order of a heap; a leaf stays one."""
    heap = np.empty((table.n_trees, (2 << _LEVELS) - 1), np.int64)
    heap[:, 0] = table.first[:-1]
    for spot in range((1 << _LEVELS) - 1):
        above = heap[:, spot]
        for side in (0, 1):
            below = np.where(inner[above], table.link[above] + side, above)
            heap[:, 2 * spot + 1 + side] = below
    return heap


def _depths(table: TreeTable, tree: Array, inner: Array) -> Array:
    """How many levels of questions each tree has."""
    depths = np.zeros(table.n_trees, np.int64)
    level = table.first[:-1][inner[table.first[:-1]]]
    while level.size:
        depths[np.unique(tree[level])] += 1
        below = np.concatenate([table.link[level], table.link[level] + 1])
        level = below[inner[below]]
    return depths
