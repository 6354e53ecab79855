"""A layout is a tree table as the kernel reads it: packed for the processor's caches.

Rules:

1. A column is loaded once for all nodes that send NaN to the right, where it compares so, and
   once more, NaN made -inf, for those that send it to the left. No node asks for NaN then.
2. A node is a split and a link in 8 bytes, where splits may be float32 numbers, else in 16. A
   tree's nodes are counted from 1: a leaf leads to the node before it and one to the right.
3. A set that nodes ask for is a column of its own, 0 for its members and 1 for others, and for
   what is missing as the nodes say. So their question is a comparison, too, without a branch.
4. Where columns or nodes are too many for the 32 bits of a link, nodes have 16 bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foretell.core.field import Array
from foretell.runtimes.trees.table import TreeTable

_LEVELS = 3
_BETWEEN = 0.5
_BLOCK_BYTES = 64 * 1024
_LEAST_ROWS, _MOST_ROWS = 64, 512
_IS_SET, _COLUMN, _MISSING, _HALF = (np.uint64(each) for each in (63, 32, 31, 2**31 - 1))


class Packed(NamedTuple):
    """What the kernel reads: of columns, of trees, of nodes, and what leaves add.

    The first columns are the columns `used` of the matrix, with the smallest number in place of
    what is missing where `missing_left` says so. The others are sets, a column of `going` each:
    it has a row a category, one for what is none, and one for missing. Those from `set_first` n
    to n + 1 ask for the matrix's column `set_used` n. `at_top` says which columns are asked for
    in the first three levels.

    `split` and `link` share their memory: node n is `split[2 n]` and `link[2 n + 1]`. `depth` is
    that below the first three levels, -1 for a tree whose values are in `shallow`.
    """

    used: Array
    missing_left: Array
    set_used: Array
    set_first: Array
    going: Array
    at_top: Array
    base: Array
    depth: Array
    target: Array
    width: Array
    top_column: Array
    top_split: Array
    entry: Array
    shallow: Array
    split: Array
    link: Array
    leaf: Array
    values: Array
    start: Array


def dtypes_of(split: Any, number: Any) -> tuple[Any, ...]:
    """Those of the arrays of a `Packed` whose splits and sums have these."""
    whole, small = np.int64, np.int32
    link = np.uint32 if split == np.float32 else np.uint64
    columns = (whole, np.bool_, whole, whole, np.uint8, np.bool_)
    trees = (whole, whole, small, small, whole, split, np.uint64, number)
    return (*columns, *trees, split, link, small, number, number)


def block_rows(packed: Packed) -> int:
    """How many rows of its columns and sums, a power of two, stay in the caches."""
    size = packed.split.itemsize * len(packed.at_top) * 2 + packed.start.itemsize * len(
        packed.start
    )
    rows = _MOST_ROWS
    while rows > _LEAST_ROWS and rows * size > _BLOCK_BYTES:
        rows //= 2
    return rows


def packed(table: TreeTable) -> Packed:
    """`table` as the kernel reads it."""
    n_trees, n_nodes = table.n_trees, len(table.column)
    sizes = np.diff(table.first)
    tree = np.repeat(np.arange(n_trees), sizes)
    inner = table.column >= 0
    columns, column = _columns(table, inner)
    n_columns = len(columns["used"]) + columns["going"].shape[1]
    short = (
        table.single and n_columns <= 1 << column_bits(4) and sizes.max() < 1 << 32 - column_bits(4)
    )
    dtype, whole = (np.float32, np.uint32) if short else (np.float64, np.uint64)

    split = np.full(n_nodes, np.nan, dtype)
    split[inner] = _rounded_down(table.split[inner]) if short else table.split[inner]
    split[inner & (table.sets >= 0)] = _BETWEEN
    place = np.arange(n_nodes) + tree + 1  # each tree has a node in front that none leads to
    base = table.first[:-1] + np.arange(n_trees)
    ahead = place - 1
    ahead[inner] = table.link[inner] + tree[inner] + 1
    nodes = np.zeros(2 * (n_nodes + n_trees), dtype)
    link = nodes.view(whole)
    nodes[2 * place] = split
    link[2 * place + 1] = ((ahead - base[tree]) << column_bits(link.itemsize)) | column
    leaf = np.zeros(n_nodes + n_trees, np.int32)
    leaf[place] = np.where(inner, 0, table.link)

    depth = _depths(table, tree, inner) - _LEVELS
    heap = _heap(table, inner)
    leaves = np.where(inner[heap[:, 7:]], 0, table.link[heap[:, 7:]])
    return Packed(
        **columns,
        at_top=np.isin(np.arange(n_columns), column[heap[:, :7]]),
        base=base,
        depth=np.where((depth <= 0) & (table.width == 1), -1, np.maximum(depth, 0)),
        target=table.target,
        width=table.width,
        top_column=np.ascontiguousarray(column[heap[:, :7]]),
        top_split=np.ascontiguousarray(split[heap[:, :7]]),
        entry=(heap[:, 7:] - table.first[:-1, None] + 1).astype(np.uint64),
        shallow=np.ascontiguousarray(table.values[leaves]),
        split=nodes,
        link=link,
        leaf=leaf,
        values=table.values,
        start=table.start,
    )


def column_bits(itemsize: int) -> int:
    """How many bits of a link of so many bytes are for the column."""
    return 12 if itemsize == 4 else 24


def _columns(table: TreeTable, inner: Array) -> tuple[dict[str, Array], Array]:
    """The columns that are made for the nodes, and every node's among them."""
    # in 64 bits, from the highest: whether it is a set, the column, missing_left, the set
    place, is_set = np.maximum(table.sets, 0), (table.sets >= 0).astype(np.uint64)
    asked = is_set << _IS_SET | table.column.astype(np.uint64) << _COLUMN
    asked |= table.missing_left.astype(np.uint64) << _MISSING | place.astype(np.uint64)
    known, spot = np.unique(asked[inner], return_inverse=True)
    column = np.zeros(len(inner), np.int64)
    column[inner] = spot
    n_numbers = int(np.searchsorted(known, np.uint64(1) << _IS_SET))
    source = (known >> _COLUMN & _HALF).astype(np.int64)
    missing_left = (known >> _MISSING & np.uint64(1)).astype(np.bool_)
    sets = (known & _HALF).astype(np.int64)[n_numbers:]
    sources, first = np.unique(source[n_numbers:], return_index=True)
    columns = {
        "used": source[:n_numbers],
        "missing_left": missing_left[:n_numbers],
        "set_used": sources,
        "set_first": np.append(first, len(sets)),
        "going": _going(table.words, missing_left[n_numbers:], sets),
    }
    return columns, column


def _going(words: Array, missing_left: Array, places: Array) -> Array:
    """Of each set in `words` at `places` 0 for its members and 1 for others, as `Packed` tells."""
    sizes = words[places].astype(np.int64)
    going = np.ones((64 * int(sizes.max(initial=0)) + 2, len(places)), np.uint8)
    for n, (place, size) in enumerate(zip(places.tolist(), sizes.tolist(), strict=True)):
        bits = words[place + 1 : place + 1 + size].astype("<u8").view(np.uint8)
        going[: 64 * size, n] = 1 - np.unpackbits(bits, bitorder="little")
    going[-1] = 1 - missing_left
    return going


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
