"""The models that can be drawn, by class, and those that are made of other models.

Sources (scikit-learn 1.9): ensemble/_voting.py, _stacking.py, _bagging.py,
_weight_boosting.py, calibration.py, multioutput.py, model_selection/_search.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing import boosters, formulas, trees
from foretell.packing.compiling.drawing.drawn import (
    DrawModel,
    Drawn,
    above,
    both,
    greatest,
    likeliest,
    regression,
    sigmoid,
    softmax,
)
from foretell.packing.compiling.drawing.graph import Graph, Tensor, Unfaithful
from foretell.packing.compiling.drawing.sheet import Sheet, matrix_sheet
from foretell.packing.compiling.drawing.steps import draw_step


def draw(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """The answers of `model` to `sheet`. Raises Unfaithful for what is not known."""
    kind, module = type(model).__name__, type(model).__module__.partition(".")[0]
    if kind in boosters.MODELS and module in ("lightgbm", "xgboost"):
        return boosters.MODELS[kind](graph, model, sheet)
    if module != "sklearn":
        raise Unfaithful(f"there is no exact graph of {kind}")
    if kind == "Pipeline":
        for _, step in model.steps[:-1]:
            sheet = draw_step(graph, step, sheet)
        return draw(graph, model.steps[-1][1], sheet)
    if hasattr(model, "best_estimator_"):
        return draw(graph, model.best_estimator_, sheet)
    if kind.startswith("HistGradientBoosting"):
        inner = getattr(model, "_preprocessor", None)
        table = sheet if inner is None else draw_step(graph, inner, sheet)
        return trees.histogram(graph, model, graph.cast(table.matrix(graph), np.float64))
    if kind in _COMPOSED:
        return _COMPOSED[kind](graph, model, sheet)
    if kind not in _SINGLE:
        raise Unfaithful(f"there is no exact graph of {kind}")
    return _SINGLE[kind](graph, model, sheet.matrix(graph))


def _tensor_of(graph: Graph, part: Drawn, method: str) -> tuple[str, int]:
    """What `method` of a drawn model answers, [N, width], and its width."""
    if part.classes is None:
        if part.targets is not None:
            return part.prediction, part.targets
        return graph.reshape(part.prediction, -1, 1), 1
    n = len(part.classes)
    if method == "predict_proba" and part.probability is not None:
        if n == 2:
            return graph.op("Gather", part.probability, graph.constant([1], np.int64), axis=1), 1
        return part.probability, n
    if method == "decision_function" and part.decision is not None:
        return part.decision, 1 if n == 2 else n
    raise Unfaithful(f"a part of it is asked for its {method}")


def _weighted(graph: Graph, parts: list[str], weights: Any) -> str:
    """The average of tensors of one shape, as numpy takes it."""
    factors = [1.0] * len(parts) if weights is None else [float(w) for w in weights]
    total: str | None = None
    for part, factor in zip(parts, factors, strict=True):
        one = part if factor == 1.0 else graph.op("Mul", part, graph.constant(factor))
        total = one if total is None else graph.op("Add", total, one)
    if total is None:
        raise Unfaithful("it is made of no models")
    return graph.op("Div", total, graph.constant(float(np.sum(factors))))


def _voting_classes(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    parts = [draw(graph, inner, sheet) for inner in model.estimators_]
    weights = model._weights_not_none
    if model.voting == "soft":
        chances = [part.probability for part in parts if part.probability is not None]
        if len(chances) != len(parts):
            raise Unfaithful("a part of it has no probability")
        return likeliest(graph, _weighted(graph, chances, weights), model.classes_)
    spots = graph.constant(np.arange(len(model.classes_)).reshape(1, -1), np.int64)
    votes = []
    for part in parts:
        index = graph.reshape(part.prediction, -1, 1)
        votes.append(graph.cast_name(graph.op("Equal", index, spots), np.float64))
    return Drawn(greatest(graph, _weighted(graph, votes, weights)), np.int64, model.classes_)


def _voting_numbers(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    parts = [draw(graph, inner, sheet).prediction for inner in model.estimators_]
    average = _weighted(graph, parts, model._weights_not_none)
    return Drawn(average)


def _stacking(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    made: list[Tensor] = []
    for inner, method in zip(model.estimators_, model.stack_method_, strict=True):
        part = draw(graph, inner, sheet)
        name, width = _tensor_of(graph, part, method)
        made.append(Tensor(name, np.dtype(np.float64), (None,) * width))
    if model.passthrough:
        made.append(graph.cast(sheet.matrix(graph), np.float64))
    final = draw(graph, model.final_estimator_, matrix_sheet(graph.join(made)))
    if not hasattr(model, "classes_"):
        return final
    if isinstance(model._label_encoder, list):
        raise Unfaithful("it predicts several labels at once")
    return Drawn(final.prediction, np.int64, model.classes_, final.probability)


def _bagged(graph: Graph, model: Any, sheet: Sheet) -> list[tuple[Any, Drawn]]:
    whole = list(range(sheet.width))
    drawn = []
    for inner, columns in zip(model.estimators_, model.estimators_features_, strict=True):
        places = np.asarray(columns).tolist()
        part = sheet if places == whole else sheet.select(graph, places)
        drawn.append((inner, draw(graph, inner, part)))
    return drawn


def _bagging_classes(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    chances = []
    for inner, part in _bagged(graph, model, sheet):
        if part.probability is None or len(inner.classes_) != len(model.classes_):
            raise Unfaithful("a part of it knows other classes or no probability")
        chances.append(part.probability)
    return likeliest(graph, _weighted(graph, chances, None), model.classes_)


def _bagging_numbers(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    parts = [part.prediction for _, part in _bagged(graph, model, sheet)]
    return Drawn(_weighted(graph, parts, None))


def _adaptive(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """AdaBoostClassifier: each part's label adds its weight."""
    n = len(model.classes_)
    if n < 2:
        raise Unfaithful("it knows one class only")
    spots = graph.constant(np.arange(n).reshape(1, -1), np.int64)
    total: str | None = None
    for inner, weight in zip(model.estimators_, model.estimator_weights_, strict=False):
        index = graph.reshape(draw(graph, inner, sheet).prediction, -1, 1)
        if len(inner.classes_) != n:
            raise Unfaithful("a part of it knows other classes")
        yes, no = graph.constant(float(weight)), graph.constant(float(-1 / (n - 1) * weight))
        one = graph.op("Where", graph.op("Equal", index, spots), yes, no)
        total = one if total is None else graph.op("Add", total, one)
    if total is None:
        raise Unfaithful("it is made of no models")
    raw = graph.op("Div", total, graph.constant(float(model.estimator_weights_.sum())))
    if n == 2:
        signs = graph.op("Mul", raw, graph.constant([[-1.0, 1.0]]))
        raw = graph.op("ReduceSum", signs, graph.constant([1], np.int64), keepdims=1)
        halves = graph.op("Mul", raw, graph.constant([[-0.5, 0.5]]))
        chances = softmax(graph, halves)
        label = above(graph, graph.flat(raw))
        return Drawn(label, np.int64, model.classes_, chances, decision=raw)
    chances = softmax(graph, graph.op("Div", raw, graph.constant(float(n - 1))))
    return Drawn(greatest(graph, raw), np.int64, model.classes_, chances, decision=raw)


def _calibrated(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """CalibratedClassifierCV with sigmoid calibration."""
    averaged = [
        _calibrated_part(graph, part, draw(graph, part.estimator, sheet))
        for part in model.calibrated_classifiers_
    ]
    return likeliest(graph, _weighted(graph, averaged, None), model.classes_)


def _calibrated_part(graph: Graph, part: Any, drawn: Drawn) -> str:
    if part.method != "sigmoid":
        raise Unfaithful(f"its calibration is {part.method}")
    estimator = part.estimator
    method = "decision_function" if hasattr(estimator, "decision_function") else "predict_proba"
    raw, width = _tensor_of(graph, drawn, method)
    slopes = np.array([[float(c.a_) for c in part.calibrators]])
    offsets = np.array([[float(c.b_) for c in part.calibrators]])
    if width != slopes.shape[1]:
        raise Unfaithful("its calibration has other classes")
    line = graph.op("Add", graph.op("Mul", raw, graph.constant(slopes)), graph.constant(offsets))
    chances = sigmoid(graph, graph.op("Neg", line))
    if width == 1:
        return both(graph, graph.flat(chances))
    total = graph.op("ReduceSum", chances, graph.constant([1], np.int64), keepdims=1)
    none = graph.op("Equal", total, graph.constant(0.0))
    alike = graph.constant(1.0 / len(part.classes))
    return graph.op("Where", none, alike, graph.op("Div", chances, total))


def _several(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """MultiOutputRegressor."""
    parts = [draw(graph, inner, sheet).prediction for inner in model.estimators_]
    columns = [graph.reshape(part, -1, 1) for part in parts]
    return regression(graph, graph.op("Concat", *columns, axis=1), len(columns))


def _constant(graph: Graph, model: Any, sheet: Sheet) -> Drawn:
    """DummyRegressor and DummyClassifier of the prior."""
    first = graph.cast(sheet.column(graph, 0), np.float64).name
    zero = graph.op("Mul", graph.cast_name(graph.op("IsNaN", first), np.float64),
                    graph.constant(0.0))  # fmt: skip
    if not hasattr(model, "classes_"):
        value: Array = np.ravel(model.constant_)[:1]
        return Drawn(graph.flat(graph.op("Add", zero, graph.constant(value.reshape(1, 1)))))
    if model.strategy != "prior":
        raise Unfaithful(f"its strategy is {model.strategy}")
    prior = np.asarray(model.class_prior_, dtype=np.float64).reshape(1, -1)
    return likeliest(graph, graph.op("Add", zero, graph.constant(prior)), model.classes_)


_LINEAR_CLASSES = (
    "LogisticRegression LogisticRegressionCV SGDClassifier RidgeClassifier RidgeClassifierCV "
    "LinearSVC Perceptron PassiveAggressiveClassifier LinearDiscriminantAnalysis"
)
_LINEAR_NUMBERS = (
    "LinearRegression Ridge RidgeCV Lasso LassoCV ElasticNet ElasticNetCV SGDRegressor LinearSVR "
    "HuberRegressor BayesianRidge ARDRegression Lars LassoLars OrthogonalMatchingPursuit "
    "TheilSenRegressor QuantileRegressor PoissonRegressor GammaRegressor PassiveAggressiveRegressor"
)
_SINGLE: dict[str, DrawModel] = {
    **dict.fromkeys(_LINEAR_CLASSES.split(), formulas.linear_classes),
    **dict.fromkeys(_LINEAR_NUMBERS.split(), formulas.linear_numbers),
    "DecisionTreeClassifier": trees.class_trees,
    "ExtraTreeClassifier": trees.class_trees,
    "RandomForestClassifier": trees.class_trees,
    "ExtraTreesClassifier": trees.class_trees,
    "DecisionTreeRegressor": trees.number_trees,
    "ExtraTreeRegressor": trees.number_trees,
    "RandomForestRegressor": trees.number_trees,
    "ExtraTreesRegressor": trees.number_trees,
    "GradientBoostingClassifier": trees.boosted,
    "GradientBoostingRegressor": trees.boosted,
    "IsolationForest": trees.isolation,
    "GaussianNB": formulas.gaussian,
    "MultinomialNB": formulas.counted,
    "ComplementNB": formulas.counted,
    "BernoulliNB": formulas.counted,
    "QuadraticDiscriminantAnalysis": formulas.quadratic,
    "MLPClassifier": formulas.network,
    "MLPRegressor": formulas.network,
    "SVC": formulas.support_classes,
    "NuSVC": formulas.support_classes,
    "SVR": formulas.support_numbers,
    "NuSVR": formulas.support_numbers,
    "OneClassSVM": formulas.support_outliers,
    "KMeans": formulas.clusters,
    "MiniBatchKMeans": formulas.clusters,
    "EllipticEnvelope": formulas.envelope,
}
_COMPOSED: dict[str, Callable[[Graph, Any, Sheet], Drawn]] = {
    "VotingClassifier": _voting_classes,
    "VotingRegressor": _voting_numbers,
    "StackingClassifier": _stacking,
    "StackingRegressor": _stacking,
    "BaggingClassifier": _bagging_classes,
    "BaggingRegressor": _bagging_numbers,
    "AdaBoostClassifier": _adaptive,
    "CalibratedClassifierCV": _calibrated,
    "MultiOutputRegressor": _several,
    "DummyRegressor": _constant,
    "DummyClassifier": _constant,
}
