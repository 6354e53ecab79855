"""Splitting cuts a graph at its one tree ensemble: a graph before, a tree table, a graph after.

Rules:

1. The graph before makes the matrix that the trees read. Where that is the graph's input itself,
   or a cast of it, there is none.
2. The graph after takes the sums, and the graph's inputs where it asks for them, too.
3. Trees that stand one behind the other, add to different targets and ask the same questions
   become one whose leaves hold a value for each: a forest knows several classes, but was drawn
   once for each of them. The sums of every target stay in their order.
4. What cannot be cut raises Unfaithful, saying why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.forest import (
    LESS,
    LESS_OR_EQUAL,
    MEMBER,
    widened_splits,
)
from foretell.packing.compiling.drawing.graph import ML, Unfaithful, onnx_module
from foretell.runtimes.trees.table import TreeTable

_GREATEST_MEMBER = 0xFFFF


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of a graph, and the options of the step that runs them."""

    before: bytes | None
    table: TreeTable
    after: bytes
    options: Mapping[str, Any]


def split(model: bytes, options: Mapping[str, Any]) -> Split:
    """The parts of `model`, whose `onnx` step has `options`. Raises Unfaithful."""
    onnx = onnx_module()
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    ensembles = [
        node for node in graph.node if node.domain == ML and node.op_type == "TreeEnsemble"
    ]
    if len(ensembles) != 1:
        raise Unfaithful(f"its graph has {len(ensembles) or 'no'} tree ensembles, not one")
    (ensemble,) = ensembles
    made, sums = ensemble.input[0], ensemble.output[0]
    table = _table(
        {part.name: onnx.helper.get_attribute_value(part) for part in ensemble.attribute}
    )
    element = onnx.helper.np_dtype_to_tensor_dtype(table.values.dtype)

    def declared(name: str, width: int | None) -> Any:
        return onnx.helper.make_tensor_value_info(name, element, [None, width])

    after = _part(loaded, graph.output, [declared(sums, table.n_targets)])
    told = {**options, "sums": sums}
    casts = _casts(graph, made)
    if casts is not None:
        told |= {"input": graph.input[0].name, "casts": casts}
        return Split(None, table, after, told)
    return Split(_part(loaded, [declared(made, None)], []), table, after, told)


def _casts(graph: Any, name: str) -> list[str] | None:
    """The casts that lead from the graph's one matrix of numbers to `name`, if only they do."""
    onnx = onnx_module()
    makers = {output: node for node in graph.node for output in node.output}
    found: list[str] = []
    while name in makers:
        node = makers[name]
        if node.op_type != "Cast":
            return None
        found.insert(0, str(onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i)))
        name = node.input[0]
    kind = graph.input[0].type.tensor_type
    if len(graph.input) != 1 or len(kind.shape.dim) != 2 or set(found) - {"float32", "float64"}:
        return None
    return None if kind.elem_type == onnx.TensorProto.STRING else found


def _part(model: Any, outputs: Sequence[Any], inputs: Sequence[Any]) -> bytes:
    """The part of `model` that makes `outputs`, of `inputs` and what of its own it needs."""
    onnx = onnx_module()
    graph, wanted = model.graph, {output.name for output in outputs}
    given = {part.name for part in inputs}
    nodes = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output) and not given.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    needed = [*inputs, *(part for part in graph.input if part.name in wanted)]
    constants = [part for part in graph.initializer if part.name in wanted]
    drawn = onnx.helper.make_graph(nodes[::-1], "foretell", needed, outputs, constants)
    made = onnx.helper.make_model(
        drawn, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    made.producer_name = "foretell"
    return bytes(made.SerializeToString())


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The attributes of a `TreeEnsemble`: a child is a node's number, or ~ that of a leaf."""

    column: Array
    split: Array
    left: Array
    right: Array
    missing_left: Array
    sets: Array
    target: Array
    weight: Array

    def alike(self, nodes: Array, other: Array) -> Array:
        """Where `nodes` ask the same as `other` ones; leaves ask nothing."""
        nodes, other, inner = (
            np.maximum(nodes, 0),
            np.maximum(other, 0),
            (nodes >= 0) & (other >= 0),
        )
        for part in (self.column, self.split, self.missing_left, self.sets):
            inner &= part[nodes] == part[other]
        return inner


@dataclass(frozen=True, slots=True)
class _Laid:
    """Trees of the same questions as one, level by level: a node's number or -1, and its leaf."""

    target: int
    node: Array
    leaf: Array

    @property
    def inner(self) -> Array:
        return self.node >= 0


def _table(told: Mapping[str, Any]) -> TreeTable:
    """The trees of an ensemble as a table."""
    array = onnx_module().numpy_helper.to_array
    splits = array(told["nodes_splits"])
    modes = array(told["nodes_modes"])
    if told["aggregate_function"] != 1 or told["post_transform"] != 0:
        raise Unfaithful("its trees are not summed")
    if set(np.unique(modes).tolist()) - {LESS_OR_EQUAL, LESS, MEMBER}:
        raise Unfaithful("its trees compare in another way")
    less = modes == LESS
    if np.isnan(splits).any() or np.isneginf(splits[less]).any():
        raise Unfaithful("its trees compare with no number")
    with np.errstate(all="ignore"):  # the same question with `<=`
        splits = np.where(less, np.nextafter(splits, splits.dtype.type(-np.inf)), splits)
    members = told.get("membership_values")
    sets, words = _sets(modes == MEMBER, None if members is None else array(members))
    whole = {
        name: np.asarray(told[f"nodes_{name}"], np.int64)
        for name in ("truenodeids", "falsenodeids", "trueleafs", "falseleafs")
    }
    nodes = _Nodes(
        column=np.asarray(told["nodes_featureids"], np.int32),
        split=splits,
        left=np.where(whole["trueleafs"] > 0, ~whole["truenodeids"], whole["truenodeids"]),
        right=np.where(whole["falseleafs"] > 0, ~whole["falsenodeids"], whole["falsenodeids"]),
        missing_left=np.asarray(told["nodes_missing_value_tracks_true"], bool),
        sets=sets,
        target=np.asarray(told["leaf_targetids"], np.int64),
        weight=array(told["leaf_weights"]),
    )
    roots = np.asarray(told["tree_roots"], np.int64)
    only = (nodes.left[roots] < 0) & (nodes.left[roots] == nodes.right[roots])
    roots = np.where(only, nodes.left[roots], roots)
    start = np.zeros(int(told["n_targets"]), nodes.weight.dtype)
    first = int(np.argmax(~only)) if not only.all() else len(roots) - 1
    for leaf in ~roots[:first]:
        start[nodes.target[leaf]] += nodes.weight[leaf]
    return _joined(nodes, list(_grouped(nodes, roots[first:])), words, start)


def _sets(asking: Array, members: Array | None) -> tuple[Array, Array]:
    """Where the set of each node that is `asking` for one stands in the words, else -1."""
    sets, words = np.full(len(asking), -1, np.int32), list[int]()
    known: dict[bytes, int] = {}
    if members is None:
        return sets, np.zeros(0, np.uint64)
    ends = np.flatnonzero(np.isnan(members))
    for node, start, end in zip(
        np.flatnonzero(asking), [0, *(ends[:-1] + 1)], ends.tolist(), strict=True
    ):
        values = members[start:end].astype(np.float64)
        if (values != np.rint(values)).any() or values.min() < 0 or values.max() > _GREATEST_MEMBER:
            raise Unfaithful("its trees ask for members that are no small whole numbers")
        key = values.tobytes()
        if key not in known:
            known[key] = len(words)
            bits = [0] * (int(values.max()) // 64 + 1)
            for value in values.astype(int).tolist():
                bits[value // 64] |= 1 << value % 64
            words += [len(bits), *bits]
        sets[node] = known[key]
    return sets, np.array(words, np.uint64)


def _grouped(nodes: _Nodes, roots: Array) -> Iterator[_Laid]:
    """The trees in order, those that ask the same joined."""
    targets = _targets(nodes, roots)
    place = 0
    while place < len(roots):
        end = place + 1
        if roots[place] >= 0:
            same = nodes.alike(roots, roots[place])
            while end < len(roots) and same[end] and targets[end] == targets[end - 1] + 1:
                end += 1
        laid = _laid(nodes, roots[place:end], int(targets[place]))
        if laid is None:
            end, laid = place + 1, _laid(nodes, roots[place : place + 1], int(targets[place]))
        if laid is not None:
            yield laid
        place = end


def _targets(nodes: _Nodes, roots: Array) -> Array:
    """The target of each tree: that of its leftmost leaf."""
    at = roots.copy()
    while (inner := at >= 0).any():
        at[inner] = nodes.left[at[inner]]
    return nodes.target[~at]


def _laid(nodes: _Nodes, roots: Array, target: int) -> _Laid | None:
    """The trees of `roots` as one; None when they do not ask the same."""
    level = roots.reshape(-1, 1)
    found, leaves = [], []
    while level.size:
        inner = level >= 0
        open_ = inner.any(axis=0)
        asked = level[inner.argmax(axis=0), np.arange(level.shape[1])]
        if len(roots) > 1 and (inner & ~nodes.alike(level, asked)).any():
            return None
        found.append(np.where(open_, asked, -1))
        leaves.append(np.where(open_, 0, ~level))
        level, inner = level[:, open_], inner[:, open_]
        at = np.maximum(level, 0)
        below = np.stack(
            [np.where(inner, side[at], level) for side in (nodes.left, nodes.right)], axis=2
        )
        level = below.reshape(len(roots), -1)
    node, leaf = np.concatenate(found), np.concatenate(leaves, axis=1)
    wanted = np.arange(target, target + len(roots)).reshape(-1, 1)
    if (nodes.target[leaf[:, node < 0]] != wanted).any():
        raise Unfaithful("a tree adds to several targets")
    return _Laid(target, node, leaf)


def _joined(nodes: _Nodes, trees: list[_Laid], words: Array, start: Array) -> TreeTable:
    """The table of `trees`, in order."""
    first = np.cumsum([0, *(len(tree.node) for tree in trees)])
    links, values, n_values = [], [], 0
    for tree, offset in zip(trees, first.tolist(), strict=False):
        inner, width = tree.inner, len(tree.leaf)
        link = np.empty(len(inner), np.int64)
        # level by level, the children of the n-th inner node are the nodes 1 + 2 n and 2 + 2 n
        link[inner] = offset + 1 + 2 * np.arange(inner.sum())
        link[~inner] = n_values + width * np.arange((~inner).sum())
        links.append(link)
        values.append(nodes.weight[tree.leaf[:, ~inner]].T.ravel())
        n_values += values[-1].size
    node = np.concatenate([tree.node for tree in trees])
    inner = node >= 0
    splits = np.where(inner, nodes.split[node], 0.0).astype(np.float64)
    sets = np.where(inner, nodes.sets[node], -1).astype(np.int32)
    column = np.where(inner, nodes.column[node], -1).astype(np.int32)
    return TreeTable(
        first=first,
        column=column,
        split=splits,
        link=np.concatenate(links).astype(np.int32),
        missing_left=inner & nodes.missing_left[node],
        sets=sets,
        words=words,
        target=np.array([tree.target for tree in trees], np.int32),
        width=np.array([len(tree.leaf) for tree in trees], np.int32),
        values=np.concatenate(values),
        start=start,
        n_columns=int(column.max()) + 1,
        single=nodes.split.dtype == np.float32 or _is_single(splits[inner & (sets < 0)]),
    )


def _is_single(splits: Array) -> bool:
    """Whether float32 numbers can be compared with these splits, rounded down, to the same end."""
    return bool(((widened_splits(splits) == splits) & (splits > -np.inf)).all())
