"""The kernel is the compiled loop that sums an ensemble's trees over many rows.

Rules:

1. Rows are taken in blocks that stay in the processor's caches, each tree over the whole block.
2. The first three levels of a tree ask all their seven questions of all rows, without a branch
   or a jump: the processor asks many rows at once. A tree of three levels is then done.
3. Further down, eight rows walk side by side, so that none waits for another's memory. A node is
   a split and a link (the left child, and the column asked); the right child is the next one. A
   leaf's split is NaN, to which nothing compares, and it leads to itself. Deep trees are walked
   a few levels at a time, and only the rows that are at no leaf go on.
4. A set is a column like any other: it is 0 for the members of the set and 1 for others.
5. Sums are made in the order of the trees: they are those of the original, to the last bit.
6. It is compiled for a few dtypes, never for one model, and needs nothing of numba when it runs:
   it makes no arrays, and raises nothing. `native` keeps its machine code, and calls it.

Nothing here looks where it reads: `layout` makes the tables, `table` refuses wrong ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import carray, cfunc, njit  # type: ignore[attr-defined]  # its types tell less
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from foretell.core.field import Array
from foretell.runtimes.trees.layout import Packed, dtypes_of

_BESIDE = 8
_ALL_AT_ONCE, _LEVELS = 9, 4
"""Trees with more levels below the first three are walked so many levels at a time."""

_USUAL = {
    "OPT": 3,
    "BOUNDSCHECK": None,
    "DEBUGINFO_DEFAULT": 0,
    "ENABLE_PROFILING": 0,
    "LOOP_VECTORIZE": 1,
    "EXTEND_VARIABLE_LIFETIMES": 0,
    "LLVM_REFPRUNE_PASS": 1,
    "LLVM_REFPRUNE_FLAGS": "all",
    "CPU_NAME": None,
}
"""The settings of numba with which the kernel is as fast as it can be, by their names there."""

_F = TypeVar("_F", bound=Callable[..., Any])


def _compiled(function: _F) -> _F:
    made: Any = njit(error_model="numpy")(function)
    return cast("_F", made)


@_compiled
def _load(rows: Array, p: Packed, across: Array, along: Array) -> None:
    """The numbers of a block of rows: in `across` by column, in `along` by row."""
    lowest = across.dtype.type(-np.inf)
    for u in range(p.used.shape[0]):
        source, column = p.used[u], across[u]
        for r in range(len(rows)):
            column[r] = rows[r, source]
        if p.missing_left[u]:
            for r in range(len(rows)):
                column[r] = lowest if np.isnan(column[r]) else column[r]
        for r in range(len(rows), len(column)):
            column[r] = 0
        for r in range(len(along)):
            along[r, u] = column[r]


@_compiled
def _load_sets(rows: Array, p: Packed, codes: Array, across: Array, along: Array) -> None:
    """The sets of a block of rows, behind its numbers; `codes` is memory for their categories."""
    n_numbers, n_codes = len(p.used), len(p.going) - 2
    codes[len(rows) :] = n_codes
    for s in range(len(p.set_used)):
        source = p.set_used[s]
        for r in range(len(rows)):
            number = rows[r, source]
            code = n_codes + 1 if np.isnan(number) else n_codes
            if number >= 0 and number < n_codes and number == np.floor(number):
                code = int(number)
            codes[r] = code
        first, last = p.set_first[s], p.set_first[s + 1]
        for r in range(len(along)):
            into, told = along[r, n_numbers:], p.going[codes[r]]
            for each in range(first, last):
                into[each] = told[each]
        for each in range(first, last):
            if p.at_top[n_numbers + each]:
                column = across[n_numbers + each]
                for r in range(len(column)):
                    column[r] = p.going[codes[r], each]


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
def _step(split: Array, link: Array, row: Array, node: Any) -> Any:
    """The node below `node`; all in unsigned numbers, which index without a question of sign."""
    twice = node << np.uint64(1)
    told = np.uint64(link[twice | np.uint64(1)])
    bits = np.uint64(12) if link.itemsize == 4 else np.uint64(24)
    value = row[told & ((np.uint64(1) << bits) - np.uint64(1))]
    return (told >> bits) + np.uint64(not value <= split[twice])


@_compiled
def _walk(
    along: Array, split: Array, link: Array, at: Array, active: Array, count: int, levels: int
) -> None:
    """Move the first `count` rows of `active`, eight side by side, so many levels down.

    Up to seven more make the last eight whole: a row that goes further than asked stays right.
    """
    for place in range(0, count, _BESIDE):
        some = active[place : place + _BESIDE]
        r0, r1, r2, r3 = some[0], some[1], some[2], some[3]
        r4, r5, r6, r7 = some[4], some[5], some[6], some[7]
        x0, x1, x2, x3 = along[r0], along[r1], along[r2], along[r3]
        x4, x5, x6, x7 = along[r4], along[r5], along[r6], along[r7]
        n0, n1, n2, n3 = at[r0], at[r1], at[r2], at[r3]
        n4, n5, n6, n7 = at[r4], at[r5], at[r6], at[r7]
        for _ in range(levels):
            n0 = _step(split, link, x0, n0)
            n1 = _step(split, link, x1, n1)
            n2 = _step(split, link, x2, n2)
            n3 = _step(split, link, x3, n3)
            n4 = _step(split, link, x4, n4)
            n5 = _step(split, link, x5, n5)
            n6 = _step(split, link, x6, n6)
            n7 = _step(split, link, x7, n7)
        at[r0], at[r1], at[r2], at[r3] = n0, n1, n2, n3
        at[r4], at[r5], at[r6], at[r7] = n4, n5, n6, n7


@_compiled
def _on_their_way(link: Array, at: Array, active: Array, count: int) -> int:
    """How many of `count` rows are not at a leaf; they are moved to the front of `active`."""
    bits = np.uint64(12) if link.itemsize == 4 else np.uint64(24)
    kept = 0
    for place in range(count):
        row = active[place]
        node = at[row]
        active[kept] = row
        told = np.uint64(link[(node << np.uint64(1)) | np.uint64(1)])
        kept += int(told >> bits > node)
    return kept


@_compiled
def _descend(along: Array, split: Array, link: Array, at: Array, active: Array, steps: int) -> None:
    """Move all rows down to their leaves."""
    n_rows = len(at)
    for row in range(n_rows):
        active[row] = row
    if steps <= _ALL_AT_ONCE:
        _walk(along, split, link, at, active, n_rows, steps)
        return
    count = n_rows
    while steps > 0 and count > 0:
        _walk(along, split, link, at, active, count, min(_LEVELS, steps))
        steps -= _LEVELS
        if steps > 0:
            count = _on_their_way(link, at, active, count)


@_compiled
def _sums(
    matrix: Array,
    p: Packed,
    out: Array,
    across: Array,
    along: Array,
    at: Array,
    active: Array,
    sums: Array,
) -> None:
    """Write the sums of the rows of `matrix` [N, columns] to `out` [N, targets].

    The others are memory for a block of rows, whose length is that of `at`.
    """
    block, start = len(at), 0
    while start < len(matrix):
        rows = matrix[start : min(start + block, len(matrix))]
        _load(rows, p, across, along)
        if len(p.set_used):
            _load_sets(rows, p, at, across, along)
        for t in range(len(sums)):
            for r in range(block):
                sums[t, r] = p.start[t]
        for k in range(p.base.shape[0]):
            if p.depth[k] < 0:
                _top(across, p, k, p.shallow, sums[p.target[k]], True)
                continue
            _top(across, p, k, p.entry, at, False)
            if p.depth[k] > 0:
                split, link = p.split[2 * p.base[k] :], p.link[2 * p.base[k] :]
                _descend(along, split, link, at, active, p.depth[k])
            leaves = p.leaf[p.base[k] :]
            for j in range(p.width[k]):
                into = sums[p.target[k] + j]
                for r in range(block):
                    into[r] += p.values[leaves[at[r]] + j]
        for t in range(len(sums)):
            for r in range(len(rows)):
                out[start + r, t] = sums[t, r]
        start += block


def _pointed(_typing: Any, address: Any) -> Any:
    def pointed(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), pointed


_pointer: Any = intrinsic(_pointed)
"""An address, a whole number, as a pointer."""


@_compiled
def _list(told: Array, place: int, dtype: Any) -> Any:
    return carray(_pointer(told[place, 0]), told[place, 1], dtype)


@_compiled
def _table(told: Array, place: int, dtype: Any) -> Any:
    return carray(_pointer(told[place, 0]), (told[place, 1], told[place, 2]), dtype)


def unusual() -> list[str]:
    """Which settings of numba make another kernel now: a slower one, as for debugging."""
    return [name for name, usual in _USUAL.items() if getattr(config, name, usual) != usual]


def compiled(split: Any, number: Any) -> tuple[str, str]:
    """The kernel for splits and sums of these dtypes, in LLVM's language, and its function's name.

    The function takes the address of an int64 table with a row for each array, of `Packed` and
    then those of `_sums`: its address, its length, its width. Raises what numba raises.
    """
    if getattr(config, "DISABLE_JIT", 0):
        raise RuntimeError("unset NUMBA_DISABLE_JIT")
    dtypes = dtypes_of(split, number)

    def entry(place: Any) -> None:
        told = carray(place, (26, 3))
        p = Packed(
            _list(told, 0, dtypes[0]),
            _list(told, 1, dtypes[1]),
            _list(told, 2, dtypes[2]),
            _list(told, 3, dtypes[3]),
            _table(told, 4, dtypes[4]),
            _list(told, 5, dtypes[5]),
            _list(told, 6, dtypes[6]),
            _list(told, 7, dtypes[7]),
            _list(told, 8, dtypes[8]),
            _list(told, 9, dtypes[9]),
            _table(told, 10, dtypes[10]),
            _table(told, 11, dtypes[11]),
            _table(told, 12, dtypes[12]),
            _table(told, 13, dtypes[13]),
            _list(told, 14, dtypes[14]),
            _list(told, 15, dtypes[15]),
            _list(told, 16, dtypes[16]),
            _list(told, 17, dtypes[17]),
            _list(told, 18, dtypes[18]),
        )
        matrix, out = _table(told, 19, np.float64), _table(told, 20, number)
        across, along = _table(told, 21, split), _table(told, 22, split)
        at, active = _list(told, 23, np.uint64), _list(told, 24, np.uint64)
        _sums(matrix, p, out, across, along, at, active, _table(told, 25, number))

    pointer: Any = types.CPointer
    asked = types.void(pointer(types.int64))
    made: Any = cfunc(asked, error_model="numpy")(entry)
    return made.inspect_llvm(), made.native_name
