"""The boosters: LightGBM's and XGBoost's trees, read from the dumps of their own libraries.

Sources of the arithmetic:

- LightGBM 4 (include/LightGBM/tree.h `NumericalDecision`, `CategoricalDecision`): float64
  columns `<=` float64 thresholds; NaN is 0 unless the split's missing type is NaN; |x| <= 1e-35 is
  0, with the type Zero it is missing; categories are truncated to integers. Sums in float64 in
  the order of the trees. Columns of integers in an array are cast to float32 by its Python
  package (`__pred_for_np2d`), those of DataFrames to float64. Its dump tells an infinite
  threshold as 1e300 (`AvoidInf`).
- XGBoost 3 (src/predictor): float32 columns `<` float32 thresholds, missing goes by default;
  sums in float32; a set of categories goes right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.drawn import (
    Drawn,
    above,
    both,
    greatest,
    likeliest,
    regression,
    sigmoid,
    softmax,
)
from foretell.packing.compiling.drawing.forest import LESS, Forest, Tree, constant_tree
from foretell.packing.compiling.drawing.graph import Graph, Tensor, Unfaithful
from foretell.packing.compiling.drawing.sheet import Sheet

_TINY = float(np.float32(1e-35))
_UNBOUNDED = 1e300


def coded(graph: Graph, sheet: Sheet, categories: Mapping[str, Any], ints: Any) -> Tensor:
    """`sheet` as one tensor: columns of categories become their codes, unknown ones NaN."""
    if sheet.is_matrix and not categories:
        tensor = sheet.parts[0]
        return graph.cast(tensor, ints) if tensor.dtype.kind in "iub" else tensor
    parts = []
    for place, name in enumerate(sheet.names):
        column = sheet.column(graph, place)
        known = categories.get(name)
        if known is None:
            parts.append(graph.cast(column, np.float64))
        elif not column.is_text or not all(isinstance(value, str) for value in known):
            raise Unfaithful(f"its categories of {name!r} are not texts")
        else:
            table = {graph.code(column, text): float(code) for code, text in enumerate(known)}
            found = graph.lookup(column.name, table, float("nan"))
            parts.append(Tensor(found, np.dtype(np.float64), (None,)))
    return graph.join(parts)


def lightgbm_classes(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """LGBMClassifier."""
    return _lightgbm(graph, model.booster_, sheet, np.asarray(model.classes_))


def lightgbm_numbers(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """LGBMRegressor."""
    return _lightgbm(graph, model.booster_, sheet, None)


def lightgbm_file(graph: Graph, stage: Any, sheet: Sheet) -> Drawn:
    """A booster of LightGBM's own file, as its runtime answers."""
    n = stage.booster.num_model_per_iteration()
    is_class = stage.objective in ("binary", "multiclass", "multiclassova")
    return _lightgbm(graph, stage.booster, sheet, np.arange(max(n, 2)) if is_class else None)


def _lightgbm(graph: Graph, booster: Any, sheet: Sheet, classes: Array | None) -> Drawn:
    from foretell.runtimes.lightgbm_files import categories_of

    told = booster.dump_model()
    if any("leaf_coeff" in _first_leaf(tree["tree_structure"]) for tree in told["tree_info"]):
        raise Unfaithful("its leaves hold linear models")
    tensor = coded(graph, sheet, categories_of(booster), np.float32)
    n = int(told["num_tree_per_iteration"])
    kinds: dict[int, str] = {}
    trees = [
        _lightgbm_tree(tree["tree_structure"], place % n, kinds)
        for place, tree in enumerate(told["tree_info"])
    ]
    tensor = graph.cast(tensor, np.float64)
    if any((np.abs(tree.split[tree.left >= 0]) <= _TINY).any() for tree in trees):
        tensor = _without_tiny(graph, tensor)
    tensor = _lightgbm_columns(graph, tensor, kinds)
    raw = Forest(tuple(trees), n).draw(graph, tensor)
    if told["average_output"]:
        raw = graph.op("Div", raw, graph.constant(float(len(trees) // n)))
    words = str(told.get("objective", "")).split()
    objective = words[0] if words else ""
    options = dict(word.split(":", 1) for word in words[1:] if ":" in word)
    if classes is None:
        return regression(graph, _lightgbm_link(graph, raw, objective, words), None)
    slope = graph.constant(float(options.get("sigmoid", 1.0)))
    match objective:
        case "binary":
            flat = graph.flat(raw)
            chances = both(graph, sigmoid(graph, graph.op("Mul", flat, slope)))
        case "multiclass":
            chances = softmax(graph, raw)
        case "multiclassova":
            chances = sigmoid(graph, graph.op("Mul", raw, slope))
        case _:
            raise Unfaithful(f"its objective is {objective or 'unknown'}")
    return likeliest(graph, chances, classes)


def _lightgbm_link(graph: Graph, raw: str, objective: str, words: list[str]) -> str:
    if "sqrt" in words:
        sign, square = graph.op("Sign", raw), graph.op("Mul", raw, raw)
        return graph.op("Mul", sign, square)
    if objective in ("poisson", "gamma", "tweedie"):
        return graph.op("Exp", raw)
    if objective == "cross_entropy":
        return sigmoid(graph, raw)
    known = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
    if objective not in known:
        raise Unfaithful(f"its objective is {objective or 'unknown'}")
    return raw


def _first_leaf(node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "left_child" in node:
        node = node["left_child"]
    return node


def _without_tiny(graph: Graph, tensor: Tensor) -> Tensor:
    """Columns with |x| <= 1e-35 as 0, as LightGBM reads them (`RowPairFunctionFromDenseMatric`)."""
    tiny = graph.op("LessOrEqual", graph.op("Abs", tensor.name), graph.constant(_TINY))
    name = graph.op("Where", tiny, graph.constant(0.0), tensor.name)
    return Tensor(name, tensor.dtype, tensor.origins)


def _lightgbm_columns(graph: Graph, tensor: Tensor, kinds: Mapping[int, str]) -> Tensor:
    """Columns as the splits see them: tiny numbers missing, categories whole numbers."""
    zero = np.array([kinds.get(place) == "Zero" for place in range(tensor.width)])
    whole = np.array([kinds.get(place) == "category" for place in range(tensor.width)])
    if zero.any():
        tiny = graph.op("LessOrEqual", graph.op("Abs", tensor.name), graph.constant(_TINY))
        gone = graph.op("And", tiny, graph.constant(zero.reshape(1, -1)))
        name = graph.op("Where", gone, graph.constant(np.nan), tensor.name)
        tensor = Tensor(name, tensor.dtype, tensor.origins)
    if whole.any():
        sign, size = graph.op("Sign", tensor.name), graph.op("Abs", tensor.name)
        cut = graph.op("Mul", sign, graph.op("Floor", size))
        name = graph.op("Where", graph.constant(whole.reshape(1, -1)), cut, tensor.name)
        tensor = Tensor(name, tensor.dtype, tensor.origins)
    return tensor


def _lightgbm_tree(root: Mapping[str, Any], target: int, kinds: dict[int, str]) -> Tree:
    nodes: list[Mapping[str, Any]] = [root]
    left: list[int] = []
    for node in nodes:  # grows while it is read: parents stand before their children
        if "left_child" in node:
            left.append(len(nodes))
            nodes += [node["left_child"], node["right_child"]]
        else:
            left.append(-1)
    n = len(nodes)
    column, split, value = np.full(n, -1), np.zeros(n), np.zeros(n)
    missing, members = np.zeros(n, dtype=bool), {}
    for place, node in enumerate(nodes):
        if left[place] < 0:
            value[place] = node["leaf_value"]
            continue
        column[place] = node["split_feature"]
        kind = node["missing_type"]
        if node["decision_type"] == "==":
            kind = "category"
            members[place] = [float(code) for code in str(node["threshold"]).split("||")]
        else:
            # a split that only what is missing fails has no bound; the dump tells a great number
            told = float(node["threshold"])
            split[place] = told if told < _UNBOUNDED else np.inf
            by_default = kind in ("NaN", "Zero")
            missing[place] = node["default_left"] if by_default else split[place] >= 0.0
        seen = kinds.setdefault(int(column[place]), kind)
        if seen != kind:
            raise Unfaithful("its splits of one column differ in what is missing")
    ends = np.array(left)
    right = np.where(ends < 0, -1, ends + 1)
    return Tree(column, split, ends, right, value, target, missing, members)


def xgboost_classes(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """XGBClassifier and XGBRFClassifier."""
    _plain_missing(model)
    booster, objective = model.get_booster(), str(model.objective)
    raw = _xgboost(graph, booster, sheet, _iterations(model))
    classes = np.asarray(model.classes_)
    if objective == "binary:logistic":
        return _xgboost_binary(graph, raw, classes)
    if objective == "multi:softprob":
        chances = softmax(graph, raw)
        return Drawn(greatest(graph, chances), np.int64, classes, chances)
    raise Unfaithful(f"its objective is {objective}")


def xgboost_numbers(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """XGBRegressor and XGBRFRegressor."""
    _plain_missing(model)
    raw = _xgboost(graph, model.get_booster(), sheet, _iterations(model))
    return _xgboost_number(graph, raw, str(model.objective))


def xgboost_file(graph: Graph, stage: Any, sheet: Sheet) -> Drawn:
    """A booster of XGBoost's own file, as its runtime answers."""
    raw = _xgboost(graph, stage.booster, sheet, stage._trees[1] or None)
    if stage.objective == "binary:logistic":
        return _xgboost_binary(graph, raw, np.arange(2))
    if stage.objective == "multi:softprob":
        chances = softmax(graph, raw)
        return Drawn(greatest(graph, chances), np.int64, None, chances)
    return _xgboost_number(graph, raw, stage.objective)


def _plain_missing(model: Any) -> None:
    missing = model.missing
    if missing is not None and not np.isnan(missing):
        raise Unfaithful(f"it takes {missing} as missing")


def _iterations(model: Any) -> int | None:
    end = model._get_iteration_range(None)[1]
    return int(end) or None


def _xgboost_binary(graph: Graph, raw: str, classes: Array) -> Drawn:
    one, power = graph.constant(np.float32(1.0)), graph.op("Exp", graph.op("Neg", graph.flat(raw)))
    positive = graph.op("Div", one, graph.op("Add", one, power))
    label = above(graph, positive, 0.5, dtype=np.float32)
    return Drawn(label, np.int64, classes, both(graph, positive, np.float32))


def _xgboost_number(graph: Graph, raw: str, objective: str) -> Drawn:
    match objective:
        case "count:poisson" | "reg:gamma" | "reg:tweedie":
            raw = graph.op("Exp", raw)
        case "reg:logistic":
            raw = sigmoid(graph, raw)
        case "reg:squarederror" | "reg:absoluteerror" | "reg:pseudohubererror":
            pass
        case "reg:quantileerror" | "reg:linear" | "binary:logitraw":
            pass
        case _:
            raise Unfaithful(f"its objective is {objective}")
    return Drawn(graph.flat(raw), np.float32)


def _xgboost(graph: Graph, booster: Any, sheet: Sheet, iterations: int | None) -> str:
    """The margins [N, K], float32: the base score first, then the trees in their order."""
    from foretell.runtimes.xgboost_files import categories_of

    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    machine = learner["gradient_booster"]
    if machine["name"] != "gbtree":
        raise Unfaithful(f"it is a {machine['name']} booster")
    if int(learner["learner_model_param"].get("num_target", "1")) != 1:
        raise Unfaithful("it predicts several targets")
    objective = str(learner["objective"]["name"])
    n = max(int(learner["learner_model_param"]["num_class"]), 1)
    base = _margins(learner["learner_model_param"]["base_score"], objective, n)
    model = machine["model"]
    told, targets = model["trees"], model["tree_info"]
    if iterations is not None:
        end = model["iteration_indptr"][iterations]
        told, targets = told[:end], targets[:end]
    trees = [constant_tree(value, k) for k, value in enumerate(base)]
    trees += [_xgboost_tree(tree, int(k)) for tree, k in zip(told, targets, strict=True)]
    tensor = coded(graph, sheet, categories_of(booster), np.float32)
    return Forest(tuple(trees), n, narrow=True, mode=LESS).draw(graph, tensor)


def _margins(text: str, objective: str, n: int) -> list[float]:
    """The base score before the link, a number a class (src/objective, `ProbToMargin`)."""
    scores = np.atleast_1d(np.array(json.loads(text.lower()), dtype=np.float32))
    if objective in ("binary:logistic", "reg:logistic"):
        scores = -np.log(np.float32(1.0) / scores - np.float32(1.0))
    elif objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        scores = np.log(scores)
    return [float(score) for score in np.broadcast_to(scores, (n,))]


def _xgboost_tree(told: Mapping[str, Any], target: int) -> Tree:
    if int(told["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise Unfaithful("its leaves hold vectors")
    left = np.array(told["left_children"], dtype=np.int64)
    right = np.array(told["right_children"], dtype=np.int64)
    numbers = np.array(told["split_conditions"], dtype=np.float64)
    missing = np.array(told["default_left"], dtype=bool)
    members = {}
    for node, start, size in zip(
        told["categories_nodes"],
        told["categories_segments"],
        told["categories_sizes"],
        strict=True,
    ):
        # a category of the set goes right: as a node that is true for it, turned round
        members[int(node)] = [float(c) for c in told["categories"][start : start + size]]
        left[node], right[node] = right[node], left[node]
        missing[node] = not missing[node]
    column = np.array(told["split_indices"], dtype=np.int64)
    return Tree(column, numbers, left, right, numbers, target, missing, members)


MODELS: dict[str, Callable[[Graph, Any, Sheet], Drawn]] = {
    "LGBMClassifier": lightgbm_classes,
    "LGBMRegressor": lightgbm_numbers,
    "XGBClassifier": xgboost_classes,
    "XGBRFClassifier": xgboost_classes,
    "XGBRegressor": xgboost_numbers,
    "XGBRFRegressor": xgboost_numbers,
}
