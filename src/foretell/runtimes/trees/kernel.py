"""The kernel is the compiled loop that sums an ensemble's trees over many rows.

Rules:

1. Rows are taken in blocks that stay in the processor's caches, each tree over the whole block.
2. The first three levels of a tree ask all their seven questions of all rows, without a branch
   or a jump: the processor asks many rows at once. A tree of three levels is then done.
3. Further down, eight rows walk side by side, so that none waits for another's memory. A node is
   a split and a link (the left child, and the column asked); the right child is the next one. A
   leaf's split is NaN, to which nothing compares, and it leads to itself. Of deep trees only the
   rows that are at no leaf go on.
4. Sums are made in the order of the trees: they are those of the original, to the last bit.
5. It is compiled for a few dtypes, never for one model, and kept in a cache on disk, where there
   is a folder for it. One that cannot be read is done without.

Nothing here looks where it reads: `layout` makes the tables, `table` refuses wrong ones.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

from foretell.core.field import Array

COLUMN_BITS = 12
SHALLOW, WALKED, MEMBERS = 0, 1, 2
"""Kinds of trees: of three levels and one target, of more, and with nodes that ask for a set."""

_log = logging.getLogger("foretell.runtimes")

_SHIFT = np.uint32(COLUMN_BITS)
_MASK = np.uint32((1 << COLUMN_BITS) - 1)
_TOGETHER = 12
"""So many steps eight rows walk side by side, before only those go on that are at no leaf."""

_F = TypeVar("_F", bound=Callable[..., Any])


def _compiled(function: _F) -> _F:
    made: Any = njit(nogil=True, error_model="numpy")(function)
    return cast("_F", made)


class Packed(NamedTuple):
    """What the kernel reads: of columns, of trees, of nodes, and what leaves add.

    `split` and `link` share their memory: node n is `split[2 n]` and `link[2 n + 1]`.
    """

    used: Array
    missing_left: Array
    kind: Array
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
    sets: Array
    words: Array
    values: Array
    start: Array


@_compiled
def _load(matrix: Array, start: int, n_rows: int, p: Packed, x: Array, by_row: Array) -> None:
    """A block of rows, column by column and row by row, NaN as the nodes want it."""
    width = p.used.shape[0]
    size = x.shape[1]
    for u in range(width):
        c = p.used[u]
        for r in range(n_rows):
            x[u, r] = matrix[start + r, c]
        if p.missing_left[u]:
            for r in range(n_rows):
                if np.isnan(x[u, r]):
                    x[u, r] = -np.inf
        for r in range(n_rows, size):
            x[u, r] = 0
    for r in range(size):
        for u in range(width):
            by_row[r * width + u] = x[u, r]


@_compiled
def _top(x: Array, p: Packed, k: int, leaf: Array, into: Array, add: bool) -> None:
    """What of `leaf` each row comes to within three levels of tree `k`: added, or put there."""
    c, t = p.top_column[k], p.top_split[k]
    x0, x1, x2, x3 = x[c[0]], x[c[1]], x[c[2]], x[c[3]]
    x4, x5, x6 = x[c[4]], x[c[5]], x[c[6]]
    t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
    v0, v1, v2, v3 = leaf[k, 0], leaf[k, 1], leaf[k, 2], leaf[k, 3]
    v4, v5, v6, v7 = leaf[k, 4], leaf[k, 5], leaf[k, 6], leaf[k, 7]
    for r in range(into.shape[0]):
        a = v0 if x3[r] <= t3 else v1
        b = v2 if x4[r] <= t4 else v3
        c_ = v4 if x5[r] <= t5 else v5
        d = v6 if x6[r] <= t6 else v7
        e = a if x1[r] <= t1 else b
        f = c_ if x2[r] <= t2 else d
        found = e if x0[r] <= t0 else f
        into[r] = into[r] + found if add else found


@_compiled
def _walk(by_row: Array, width: int, split: Array, link: Array, depth: int, at: Array) -> None:
    """Move each row from the node it is `at` to its leaf, or as far as rows walk together."""
    for r in range(0, at.shape[0], 8):
        i0, i1, i2, i3 = at[r], at[r + 1], at[r + 2], at[r + 3]
        i4, i5, i6, i7 = at[r + 4], at[r + 5], at[r + 6], at[r + 7]
        y0 = by_row[r * width :]
        y1 = by_row[(r + 1) * width :]
        y2 = by_row[(r + 2) * width :]
        y3 = by_row[(r + 3) * width :]
        y4 = by_row[(r + 4) * width :]
        y5 = by_row[(r + 5) * width :]
        y6 = by_row[(r + 6) * width :]
        y7 = by_row[(r + 7) * width :]
        for _ in range(min(depth, _TOGETHER)):
            i0 = _step(y0, split, link, i0)
            i1 = _step(y1, split, link, i1)
            i2 = _step(y2, split, link, i2)
            i3 = _step(y3, split, link, i3)
            i4 = _step(y4, split, link, i4)
            i5 = _step(y5, split, link, i5)
            i6 = _step(y6, split, link, i6)
            i7 = _step(y7, split, link, i7)
        at[r], at[r + 1], at[r + 2], at[r + 3] = i0, i1, i2, i3
        at[r + 4], at[r + 5], at[r + 6], at[r + 7] = i4, i5, i6, i7


@_compiled
def _walk_on(by_row: Array, width: int, split: Array, link: Array, at: Array, rows: Array) -> None:
    """Move the rows that are at no leaf yet to theirs; `rows` is memory for their numbers."""
    n_rows = at.shape[0]
    for r in range(n_rows):
        rows[r] = r
    while n_rows:
        left = 0
        for j in range(n_rows):
            r = rows[j]
            row = by_row[r * width :]
            node = _step(row, split, link, at[r])
            node = _step(row, split, link, node)
            node = _step(row, split, link, node)
            at[r] = node
            rows[left] = r
            left += not np.isnan(split[2 * node])
        n_rows = left


@_compiled
def _step(row: Array, split: Array, link: Array, node: Any) -> Any:
    found = link[2 * node + 1]
    right = not (row[found & _MASK] <= split[2 * node])
    return np.uint32((found >> _SHIFT) + np.uint32(right))


@_compiled
def _walk_sets(by_row: Array, width: int, p: Packed, k: int, at: Array) -> None:
    """Move each row to its leaf in a tree with nodes that ask for membership."""
    base = p.base[k]
    for r in range(at.shape[0]):
        node = np.uint32(1)
        while True:
            split = p.split[2 * (base + node)]
            if np.isnan(split):
                break
            found = p.link[2 * (base + node) + 1]
            value = by_row[r * width + np.int64(found & _MASK)]
            asked = p.sets[base + node]
            if asked < 0:
                right = not (value <= split)
            elif np.isnan(value):
                right = (asked & 1) == 0
            else:
                right = not _is_member(p.words, asked >> 1, value)
            node = np.uint32((found >> _SHIFT) + np.uint32(right))
        at[r] = node


@_compiled
def _is_member(words: Array, place: int, value: float) -> bool:
    size = np.float64(words[place]) * 64
    if not (value >= 0 and value < size):
        return False
    whole = np.int64(value)
    if whole != value:
        return False
    word = words[place + 1 + (whole >> 6)]
    return bool((word >> np.uint64(whole & 63)) & np.uint64(1))


def _sums(matrix: Array, start: int, stop: int, p: Packed, block: int, out: Array) -> None:
    """Write the sums of rows `start` to `stop` of `matrix` [N, columns] to `out` [N, targets]."""
    width = p.used.shape[0]
    n_targets = p.start.shape[0]
    x = np.empty((width, block), p.split.dtype)
    by_row = np.empty(width * block, p.split.dtype)
    at = np.empty(block, np.uint32)
    rows = np.empty(block, np.int64)
    sums = np.empty((n_targets, block), p.start.dtype)
    for s in range(start, stop, block):
        n_rows = min(block, stop - s)
        _load(matrix, s, n_rows, p, x, by_row)
        for t in range(n_targets):
            sums[t, :] = p.start[t]
        for k in range(p.base.shape[0]):
            target = p.target[k]
            if p.kind[k] == SHALLOW:
                _top(x, p, k, p.shallow, sums[target], True)
                continue
            if p.kind[k] == MEMBERS:
                _walk_sets(by_row, width, p, k, at)
            else:
                _top(x, p, k, p.entry, at, False)
                split, link = p.split[2 * p.base[k] :], p.link[2 * p.base[k] :]
                _walk(by_row, width, split, link, p.depth[k], at)
                if p.depth[k] > _TOGETHER:
                    _walk_on(by_row, width, split, link, at, rows)
            leaves = p.leaf[p.base[k] :]
            for j in range(p.width[k]):
                into = sums[target + j]
                for r in range(block):
                    into[r] += p.values[leaves[at[r]] + j]
        for t in range(n_targets):
            for r in range(n_rows):
                out[s + r, t] = sums[t, r]


Sums = Callable[[Array, int, int, Packed, int, Array], None]
"""`_sums`, compiled: many threads may call it at once, and it lets others run meanwhile."""

_compiling = threading.Lock()


def ready(p: Packed, block: int) -> Sums:
    """The kernel, compiled for the dtypes of `p`: read from its cache, or made now."""
    nothing, none = np.empty((0, 1)), np.empty((0, len(p.start)), p.start.dtype)
    with _compiling:
        sums = _kept()
        try:
            sums(nothing, 0, 0, p, block, none)
        except Exception as error:  # noqa: BLE001  what lies in the cache may be anything
            _log.warning("the compiled trees in the cache are not usable: %r", error)
            sums = _uncached()
            sums(nothing, 0, 0, p, block, none)
    return sums


@functools.cache
def _kept() -> Sums:
    sums: Any = _compiled(_sums)
    try:
        sums.enable_caching()
    except RuntimeError as error:
        _log.info("compiled trees are not kept: %s", error)
    made: Sums = sums
    return made


@functools.cache
def _uncached() -> Sums:
    return _compiled(_sums)
