"""The trees of scikit-learn: single ones, forests, gradient boosting, isolation forests.

Sources of the arithmetic (scikit-learn 1.9):

- tree/_tree.pyx: columns are cast to float32 and compared `<=` with float64 thresholds; a
  missing value goes where `missing_go_to_left` says.
- ensemble/_forest.py: probabilities are summed in the order of the trees, then divided.
- ensemble/_gb.py and _gradient_boosting.pyx: the start value, then `learning_rate * value`
  of each stage; labels by `raw >= 0` or the first maximum.
- ensemble/_hist_gradient_boosting: float64 columns; the baseline first; labels by `raw > 0`;
  categories as bit sets, unknown ones treated as missing.
- ensemble/_iforest.py: path lengths summed, score = -2 ** (-depths / normal), minus the offset.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.drawn import (
    Drawn,
    binary,
    both,
    likeliest,
    multinomial,
    outliers,
    regression,
    sigmoid,
)
from foretell.packing.compiling.drawing.forest import Forest, Tree, collapsed, constant_tree
from foretell.packing.compiling.drawing.graph import Graph, Tensor, Unfaithful

_MOST_NODES = 3_000_000


def _tree(tree: Any, value: Array, target: int, columns: Array | None = None) -> Tree:
    feature = tree.feature
    if columns is not None:
        feature = np.where(feature >= 0, np.asarray(columns)[np.maximum(feature, 0)], -1)
    missing = getattr(tree, "missing_go_to_left", None)
    return Tree(
        feature,
        tree.threshold,
        tree.children_left,
        tree.children_right,
        np.asarray(value, dtype=np.float64),
        target,
        np.zeros(tree.node_count, bool) if missing is None else missing.astype(bool),
    )


def _sums(graph: Graph, tensor: Tensor, trees: list[Tree], n_targets: int, single: bool) -> str:
    if sum(len(tree.left) for tree in trees) > _MOST_NODES:
        raise Unfaithful(f"its trees have more than {_MOST_NODES:,} nodes")
    return Forest(tuple(trees), n_targets, single).draw(graph, tensor)


def class_trees(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """DecisionTreeClassifier, ExtraTreeClassifier, RandomForestClassifier, ExtraTreesClassifier."""
    if model.n_outputs_ != 1:
        raise Unfaithful("it predicts several targets")
    members = getattr(model, "estimators_", None)
    trees = []
    for member in [model] if members is None else members:
        value = member.tree_.value[:, 0, :]
        for k in range(len(model.classes_)):
            tree = collapsed(_tree(member.tree_, value[:, k], k))
            if tree.left[0] >= 0 or tree.value[0] != 0.0:
                trees.append(tree)
    sums = _sums(graph, tensor, trees, len(model.classes_), single=True)
    if members is not None:
        sums = graph.op("Div", sums, graph.constant(float(len(members))))
    return likeliest(graph, sums, model.classes_)


def number_trees(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """DecisionTreeRegressor, ExtraTreeRegressor, RandomForestRegressor, ExtraTreesRegressor."""
    members = getattr(model, "estimators_", None)
    trees = [
        _tree(member.tree_, member.tree_.value[:, target, 0], target)
        for member in ([model] if members is None else members)
        for target in range(model.n_outputs_)
    ]
    sums = _sums(graph, tensor, trees, model.n_outputs_, single=True)
    if members is not None:
        sums = graph.op("Div", sums, graph.constant(float(len(members))))
    return regression(graph, sums, model.n_outputs_ if model.n_outputs_ > 1 else None)


def boosted(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """GradientBoostingClassifier and GradientBoostingRegressor."""
    if not isinstance(model.init_, str) and type(model.init_).__name__ not in (
        "DummyClassifier",
        "DummyRegressor",
    ):
        raise Unfaithful(f"it starts from a {type(model.init_).__name__}")
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0]
    trees = [constant_tree(float(value), k) for k, value in enumerate(start)]
    trees += [
        _tree(stage.tree_, model.learning_rate * stage.tree_.value[:, 0, 0], k)
        for stages in model.estimators_
        for k, stage in enumerate(stages)
    ]
    raw = _sums(graph, tensor, trees, len(start), single=True)
    if not hasattr(model, "classes_"):
        return regression(graph, raw, None)
    match type(model._loss).__name__:
        case "HalfBinomialLoss":
            return binary(graph, raw, model.classes_, equal=True)
        case "ExponentialLoss":
            doubled = graph.op("Mul", graph.flat(raw), graph.constant(2.0))
            drawn = binary(graph, raw, model.classes_, equal=True)
            chances = both(graph, sigmoid(graph, doubled))
            return Drawn(drawn.prediction, np.int64, model.classes_, chances, decision=raw)
        case "HalfMultinomialLoss":
            return multinomial(graph, raw, model.classes_)
        case loss:
            raise Unfaithful(f"it was trained with {loss}")


def histogram(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """HistGradientBoostingClassifier and HistGradientBoostingRegressor.

    `tensor` is what their own preprocessing (categories to codes) makes of the columns.
    """
    baseline = np.ravel(model._baseline_prediction)
    trees = [constant_tree(float(value), k) for k, value in enumerate(baseline)]
    for stages in model._predictors:
        for k, stage in enumerate(stages):
            trees.append(_histogram_tree(stage, k))
    raw = _sums(graph, tensor, trees, len(baseline), single=False)
    link = type(model._loss.link).__name__
    if hasattr(model, "classes_"):
        if link == "LogitLink":
            return binary(graph, raw, model.classes_)
        if link == "MultinomialLogit":
            return multinomial(graph, raw, model.classes_)
    elif link == "IdentityLink":
        return regression(graph, raw, None)
    elif link == "LogLink":
        return regression(graph, graph.op("Exp", raw), None)
    raise Unfaithful(f"it was trained with the link {link}")


def _histogram_tree(stage: Any, target: int) -> Tree:
    nodes = stage.nodes
    leaf = nodes["is_leaf"].astype(bool)
    members = {}
    for place in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
        words = stage.raw_left_cat_bitsets[int(nodes["bitset_idx"][place])]
        members[int(place)] = [
            float(code) for code in range(256) if words[code // 32] >> np.uint32(code % 32) & 1
        ]
    return Tree(
        nodes["feature_idx"].astype(np.int64),
        nodes["num_threshold"],
        np.where(leaf, -1, nodes["left"].astype(np.int64)),
        np.where(leaf, -1, nodes["right"].astype(np.int64)),
        nodes["value"],
        target,
        nodes["missing_go_to_left"].astype(bool),
        members,
    )


def isolation(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """IsolationForest: `decision_function` as score, 1 and -1 as prediction."""
    from sklearn.ensemble._iforest import _average_path_length

    some = model._max_features != model.n_features_in_
    trees = [
        _tree(member.tree_, lengths[: member.tree_.node_count] + mean - 1.0, 0, columns)
        for member, lengths, mean, columns in zip(
            model.estimators_,
            model._decision_path_lengths,
            model._average_path_length_per_tree,
            model.estimators_features_ if some else [None] * len(model.estimators_),
            strict=True,
        )
    ]
    depths = graph.flat(_sums(graph, tensor, trees, 1, single=True))
    normal = len(model.estimators_) * float(_average_path_length([model._max_samples])[0])
    if normal == 0.0:
        raise Unfaithful("it was trained on a single row")
    power = graph.op("Neg", graph.op("Div", depths, graph.constant(normal)))
    samples = graph.op("Neg", graph.op("Pow", graph.constant(2.0), power))
    return outliers(graph, graph.op("Sub", samples, graph.constant(float(model.offset_))))
