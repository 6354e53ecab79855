"""A forest is the trees of an ensemble as arrays, and their export to ONNX's `TreeEnsemble`.

Rules:

1. A node compares a column with its split; what is missing (NaN) goes where the node says.
2. A leaf adds its value to one target, in the order of the trees: the order in which the
   original sums. A start value is a tree of one leaf in front, so it is summed first.
3. Where the original casts columns to float32 (`single`), each threshold is moved to the
   greatest float64 that the cast still brings to its left side: the same comparison without a
   cast. Sums are in float64; `narrow` forests (XGBoost) compare and sum in float32 throughout.

https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html (version 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.graph import (
    ML,
    Cut,
    Graph,
    Tensor,
    Unfaithful,
    constant_tensor,
)

LESS_OR_EQUAL, LESS, MEMBER = 0, 1, 6
_MOST_MEMBERS = 20_000
_MOST_CUTS = 100


@dataclass(frozen=True, slots=True)
class Tree:
    """One binary tree: node 0 is its root; a leaf has `left` -1.

    `column`, `split`, `left`, `right`, `value` have an entry a node. `missing_left` says where
    NaN goes. `members` are the sets of a node that asks for membership: true goes left.
    """

    column: Array
    split: Array
    left: Array
    right: Array
    value: Array
    target: int
    missing_left: Array
    members: Mapping[int, Sequence[float]] = field(default_factory=dict)


def constant_tree(value: float, target: int) -> Tree:
    """A tree of one leaf."""
    none = np.array([-1])
    return Tree(none, none, none, none, np.array([value]), target, np.array([False]))


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees, how many targets they add to, and how they compare."""

    trees: tuple[Tree, ...]
    n_targets: int
    single: bool = False
    narrow: bool = False
    mode: int = LESS_OR_EQUAL

    def draw(self, graph: Graph, tensor: Tensor) -> str:
        """The sums [N, n_targets] of the trees over `tensor`: float64, or float32 if narrow."""
        _note_cuts(graph, tensor, self)
        if self.narrow:
            tensor = graph.cast(tensor, np.float32)
        dtype = np.dtype(np.float32 if self.narrow else np.float64)
        tensor = graph.cast(tensor, dtype)
        table = _Table()
        for tree in self.trees:
            table.add(widened(tree) if self.single else tree, self.mode)
        return graph.op(
            "TreeEnsemble",
            tensor.name,
            domain=ML,
            n_targets=self.n_targets,
            aggregate_function=1,
            post_transform=0,
            **table.attributes(dtype),
        )


def _note_cuts(graph: Graph, tensor: Tensor, forest: Forest) -> None:
    """Tell the graph of some of the splits, each with the way that leads there."""
    random = np.random.default_rng(graph.seed)
    order = random.permutation(len(forest.trees))
    told = 0
    for place in order.tolist():
        tree = forest.trees[place]
        inner = np.flatnonzero(tree.left >= 0)
        if not inner.size:
            continue
        if told >= _MOST_CUTS:
            return
        # as many of this tree as it takes for all trees to have their share
        share = max(1, -(-_MOST_CUTS // len(order)))
        parents = _parents(tree, inner)
        for node in random.permutation(inner)[:share].tolist():
            told += _note_cut(graph, tensor, forest, tree, node, parents)


def _parents(tree: Tree, inner: Array) -> Array:
    parents = np.full(len(tree.left), -1)
    parents[tree.left[inner]] = inner
    parents[tree.right[inner]] = inner
    return parents


def _note_cut(
    graph: Graph, tensor: Tensor, forest: Forest, tree: Tree, node: int, parents: Array
) -> int:
    column = int(tree.column[node])
    origin = tensor.origins[column]
    if origin is None or origin.scale == 0.0:
        return 0
    if node in tree.members:
        graph.cuts += [Cut(origin, float(value)) for value in tree.members[node]]
        return 1
    between: dict[int, tuple[float, float]] = {}
    below = node
    while (above := int(parents[below])) >= 0:
        spot, split = int(tree.column[above]), float(tree.split[above])
        if above not in tree.members:
            low, high = between.get(spot, (-np.inf, np.inf))
            goes_left = int(tree.left[above]) == below
            between[spot] = (low, min(high, split)) if goes_left else (max(low, split), high)
        below = above
    path = tuple(
        (behind, *between[spot])
        for spot in sorted(between)
        if spot != column and (behind := tensor.origins[spot]) is not None
    )
    single = forest.single or forest.narrow
    graph.cuts.append(Cut(origin, float(tree.split[node]), single, path))
    return 1


def widened(tree: Tree) -> Tree:
    """`tree`, its `float32(x) <= split` as an equal `x <= split` of float64 numbers."""
    return replace(tree, split=widened_splits(tree.split))


def widened_splits(splits: Array) -> Array:
    """For each split the greatest float64 number that a cast to float32 brings to its left side."""
    splits = splits.astype(np.float64)
    with np.errstate(all="ignore"):
        below = splits.astype(np.float32)
        below = np.where(below > splits, np.nextafter(below, np.float32(-np.inf)), below)
        above = np.nextafter(below, np.float32(np.inf))
        middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
    # halfway between two float32 the one of even mantissa is taken
    even = below.view(np.uint32) % 2 == 0
    return np.where(even, middle, np.nextafter(middle, -np.inf))


class _Table:
    """The attributes of a `TreeEnsemble`, filled tree by tree."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[Array]] = {
            name: []
            for name in ("feature", "split", "mode", "true", "false", "tleaf", "fleaf", "missing")
        }
        self.targets: list[Array] = []
        self.weights: list[Array] = []
        self.roots: list[int] = []
        self.members: list[float] = []
        self.n_nodes = 0
        self.n_leaves = 0

    def add(self, tree: Tree, mode: int) -> None:
        """Append one tree, its inner nodes numbered by depth first as they stand."""
        inner = np.flatnonzero(tree.left >= 0)
        leaves = np.flatnonzero(tree.left < 0)
        self.roots.append(self.n_nodes)
        if not inner.size:
            self._add_single_leaf(tree)
            return
        place = np.empty(len(tree.left), dtype=np.int64)
        place[inner] = self.n_nodes + np.arange(inner.size)
        place[leaves] = self.n_leaves + np.arange(leaves.size)
        modes = np.full(inner.size, mode, dtype=np.uint8)
        splits = tree.split[inner].astype(np.float64)
        for spot, node in enumerate(inner):
            if int(node) in tree.members:  # nothing is a member of no set, or less than all
                modes[spot] = MEMBER if tree.members[int(node)] else LESS_OR_EQUAL
                splits[spot] = 0.0 if tree.members[int(node)] else -np.inf
        self._extend(
            feature=tree.column[inner],
            split=splits,
            mode=modes,
            true=place[tree.left[inner]],
            false=place[tree.right[inner]],
            tleaf=tree.left[tree.left[inner]] < 0,
            fleaf=tree.left[tree.right[inner]] < 0,
            missing=tree.missing_left[inner],
        )
        for node in inner:
            if tree.members.get(int(node)):
                self.members += [*tree.members[int(node)], np.nan]
        self.targets.append(np.full(leaves.size, tree.target))
        self.weights.append(tree.value[leaves])
        self.n_leaves += leaves.size

    def _add_single_leaf(self, tree: Tree) -> None:
        one = np.array([1])
        here = one * self.n_leaves
        self._extend(
            feature=one * 0,
            split=one * 0.0,
            mode=one * LESS_OR_EQUAL,
            true=here,
            false=here,
            tleaf=one,
            fleaf=one,
            missing=one * 0,
        )
        self.targets.append(one * tree.target)
        self.weights.append(tree.value[:1])
        self.n_leaves += 1

    def _extend(self, **parts: Array) -> None:
        for name, part in parts.items():
            self.nodes[name].append(part)
        self.n_nodes += len(parts["feature"])

    def attributes(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """As the operator wants them."""
        nodes = {name: np.concatenate(parts) for name, parts in self.nodes.items()}
        if len(self.members) > _MOST_MEMBERS:
            raise Unfaithful(f"its trees hold {len(self.members)} categories")
        attributes = {
            "tree_roots": self.roots,
            "nodes_featureids": nodes["feature"].astype(np.int64).tolist(),
            "nodes_splits": constant_tensor("splits", nodes["split"].astype(dtype)),
            "nodes_modes": constant_tensor("modes", nodes["mode"].astype(np.uint8)),
            "nodes_truenodeids": nodes["true"].astype(np.int64).tolist(),
            "nodes_falsenodeids": nodes["false"].astype(np.int64).tolist(),
            "nodes_trueleafs": nodes["tleaf"].astype(np.int64).tolist(),
            "nodes_falseleafs": nodes["fleaf"].astype(np.int64).tolist(),
            "nodes_missing_value_tracks_true": nodes["missing"].astype(np.int64).tolist(),
            "leaf_targetids": np.concatenate(self.targets).astype(np.int64).tolist(),
            "leaf_weights": constant_tensor("weights", np.concatenate(self.weights).astype(dtype)),
        }
        if self.members:
            members = np.array(self.members, dtype=dtype)
            attributes["membership_values"] = constant_tensor("members", members)
        return attributes


def collapsed(tree: Tree) -> Tree:
    """`tree` without the splits below which every leaf has the same value."""
    left, right = tree.left.copy(), tree.right
    value = tree.value.astype(np.float64)
    known = np.where(left < 0, value, np.nan)
    open_ = np.flatnonzero(left >= 0)
    while open_.size:  # once a level, from the leaves upwards
        same = known[left[open_]] == known[right[open_]]
        if not same.any():
            break
        done, open_ = open_[same], open_[~same]
        known[done] = value[done] = known[left[done]]
        left[done] = -1
    levels = [np.array([0])]
    while levels[-1].size:
        inner = levels[-1][left[levels[-1]] >= 0]
        levels.append(np.column_stack([left[inner], right[inner]]).ravel())
    spots = np.concatenate(levels).astype(np.int64)
    place = np.full(len(left), -1)
    place[spots] = np.arange(len(spots))
    inner = left[spots] >= 0
    return Tree(
        column=tree.column[spots],
        split=tree.split[spots],
        left=np.where(inner, place[left[spots]], -1),
        right=np.where(inner, place[right[spots]], -1),
        value=value[spots],
        target=tree.target,
        missing_left=tree.missing_left[spots],
        members={int(place[n]): v for n, v in tree.members.items() if place[n] >= 0},
    )
