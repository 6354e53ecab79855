"""The models that are one formula: linear ones, Bayes, networks, kernels, clusters.

Sources (scikit-learn 1.9): linear_model/_base.py and _logistic.py (`decision_function`, labels
by `> 0` or the first maximum), naive_bayes.py, discriminant_analysis.py,
neural_network/_multilayer_perceptron.py, svm/_base.py (libsvm: one against one, votes),
cluster/_kmeans.py, covariance/_elliptic_envelope.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.drawn import (
    Drawn,
    above,
    binary,
    both,
    greatest,
    likeliest,
    multinomial,
    outliers,
    regression,
    sigmoid,
    softmax,
)
from foretell.packing.compiling.drawing.graph import Graph, Tensor, Unfaithful

_MOST_VECTORS = 2_000_000


def _wide(graph: Graph, tensor: Tensor) -> str:
    return graph.cast(tensor, np.float64).name


def _dense(graph: Graph, x: str, weights: Array, bias: Array) -> str:
    """The product with `weights`, plus `bias`, float64."""
    product = graph.product(x, np.asarray(weights, dtype=np.float64))
    return graph.op("Add", product, graph.constant(bias, np.float64))


def _decision(graph: Graph, model: Any, tensor: Tensor, *, flat: bool = False) -> str:
    """X @ coef.T + intercept, [N, 1] or [N, K]; a column that is to be `flat` is made so first."""
    coef = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    x, bias = _wide(graph, tensor), np.ravel(model.intercept_)
    if not flat:
        return _dense(graph, x, coef.T, bias)
    product = graph.flat(graph.product(x, coef.T))
    return graph.column(graph.op("Add", product, graph.constant(bias, np.float64)))


def linear_classes(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """LogisticRegression, SGD, ridge, LinearSVC, Perceptron, linear discriminant analysis."""
    is_one = np.ndim(model.coef_) == 1 or len(np.atleast_2d(model.coef_)) == 1
    raw = _decision(graph, model, tensor, flat=is_one)
    classes = model.classes_
    chances: str | None = None
    if hasattr(model, "predict_proba"):
        loss = getattr(model, "loss", "log_loss")
        if loss != "log_loss" and type(model).__name__ == "SGDClassifier":
            raise Unfaithful(f"its probabilities come of the loss {loss}")
        many = len(classes) > 2
        if many and type(model).__name__ == "SGDClassifier":
            raise Unfaithful("its probabilities are those of one class against the rest")
        chances = softmax(graph, raw) if many else both(graph, sigmoid(graph, graph.flat(raw)))
    label = above(graph, graph.flat(raw)) if is_one else greatest(graph, raw)
    return Drawn(label, np.int64, classes, chances, decision=raw)


def linear_numbers(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """LinearRegression, Ridge, Lasso, ElasticNet, SGDRegressor, LinearSVR, Huber, …"""
    raw = _decision(graph, model, tensor)
    link = {"PoissonRegressor": "Exp", "GammaRegressor": "Exp"}.get(type(model).__name__)
    if link:
        raw = graph.op(link, raw)
    several = np.ndim(model.coef_) == 2
    return regression(graph, raw, len(model.coef_) if several else None)


def gaussian(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """GaussianNB: a class's logarithm is summed over the columns."""
    x = _wide(graph, tensor)
    axis = graph.constant([1], np.int64)
    parts = []
    for place in range(len(model.classes_)):
        variance = model.var_[place]
        start = np.log(model.class_prior_[place]) - 0.5 * np.sum(np.log(2.0 * np.pi * variance))
        apart = graph.op("Sub", x, graph.constant(model.theta_[place]))
        scaled = graph.op("Div", graph.op("Mul", apart, apart), graph.constant(variance))
        half = graph.op(
            "Mul", graph.op("ReduceSum", scaled, axis, keepdims=1), graph.constant(-0.5)
        )
        parts.append(graph.op("Add", half, graph.constant(float(start))))
    return multinomial(graph, graph.op("Concat", *parts, axis=1), model.classes_)


def counted(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """MultinomialNB, ComplementNB and BernoulliNB: linear in the (binarised) columns."""
    x = graph.cast(tensor, np.float64)
    weights, prior = model.feature_log_prob_.T, model.class_log_prior_
    match type(model).__name__:
        case "BernoulliNB":
            if model.binarize is None:
                raise Unfaithful("it takes columns binarised before")
            over = graph.op("Greater", x.name, graph.constant(float(model.binarize)))
            name = graph.cast_name(over, np.float64)
            inverse = np.log(1 - np.exp(model.feature_log_prob_))
            raw = _dense(graph, name, weights - inverse.T, prior + inverse.sum(axis=1))
            return multinomial(graph, raw, model.classes_)
        case "ComplementNB":
            prior = prior if len(model.classes_) == 1 else np.zeros(len(model.classes_))
    return multinomial(graph, _dense(graph, x.name, weights, prior), model.classes_)


def quadratic(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """QuadraticDiscriminantAnalysis."""
    x = _wide(graph, tensor)
    axis = graph.constant([1], np.int64)
    parts = []
    for mean, rotation, scaling, prior in zip(
        model.means_, model.rotations_, model.scalings_, model.priors_, strict=True
    ):
        apart = graph.op("Sub", x, graph.constant(mean))
        turned = graph.op("MatMul", apart, graph.constant(rotation * scaling**-0.5))
        norm = graph.op("ReduceSum", graph.op("Mul", turned, turned), axis, keepdims=1)
        inner = graph.op("Add", norm, graph.constant(float(np.sum(np.log(scaling)))))
        half = graph.op("Mul", inner, graph.constant(-0.5))
        parts.append(graph.op("Add", half, graph.constant(float(np.log(prior)))))
    raw = graph.op("Concat", *parts, axis=1)
    if len(model.classes_) == 2:
        raw = graph.op("Sub", parts[1], parts[0])
        return binary(graph, raw, model.classes_)
    return multinomial(graph, raw, model.classes_)


_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}


def network(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """MLPClassifier and MLPRegressor."""
    x = _wide(graph, tensor)
    last = len(model.coefs_) - 1
    for place, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        x = _dense(graph, x, weights, bias)
        if place < last:
            x = graph.op(_ACTIVATIONS[model.activation], x)
    if not hasattr(model, "classes_"):
        if model.out_activation_ not in ("identity", "exp"):
            raise Unfaithful(f"its last activation is {model.out_activation_}")
        x = graph.op("Exp", x) if model.out_activation_ == "exp" else x
        return regression(graph, x, model.n_outputs_ if model.n_outputs_ > 1 else None)
    if model.out_activation_ == "softmax":
        return likeliest(graph, softmax(graph, x), model.classes_)
    if len(model.classes_) != 2 or model.n_outputs_ != 1:
        raise Unfaithful("it predicts several labels at once")
    positive = sigmoid(graph, graph.flat(x))
    chances = both(graph, positive)
    return Drawn(above(graph, positive, 0.5), np.int64, model.classes_, chances)


def _kernel(graph: Graph, model: Any, tensor: Tensor) -> str:
    """The kernel of the rows with the support vectors, [N, vectors]."""
    x, vectors = _wide(graph, tensor), np.asarray(model.support_vectors_, dtype=np.float64)
    if vectors.size > _MOST_VECTORS:
        raise Unfaithful(f"it has {len(vectors):,} support vectors")
    dot = graph.op("MatMul", x, graph.constant(vectors.T))
    gamma = graph.constant(float(model._gamma))
    match model.kernel:
        case "linear":
            return dot
        case "rbf":
            axis = graph.constant([1], np.int64)
            norms = graph.op("ReduceSum", graph.op("Mul", x, x), axis, keepdims=1)
            fixed = graph.constant(np.sum(vectors**2, axis=1).reshape(1, -1))
            twice = graph.op("Mul", dot, graph.constant(2.0))
            apart = graph.op("Sub", graph.op("Add", norms, fixed), twice)
            lost = graph.op("IsNaN", apart)  # infinite less infinite: as far as can be
            apart = graph.op("Where", lost, graph.constant(np.inf), apart)
            return graph.op("Exp", graph.op("Neg", graph.op("Mul", apart, gamma)))
    inner = graph.op("Add", graph.op("Mul", dot, gamma), graph.constant(float(model.coef0)))
    match model.kernel:
        case "poly":
            return graph.op("Pow", inner, graph.constant(float(model.degree)))
        case "sigmoid":
            return graph.op("Tanh", inner)
    raise Unfaithful(f"its kernel is {model.kernel!r}")


def support_classes(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """SVC and NuSVC without probabilities: each pair of classes votes."""
    if hasattr(model, "predict_proba"):
        raise Unfaithful("its probabilities are libsvm's own")
    if model.break_ties and model.decision_function_shape == "ovr" and len(model.classes_) > 2:
        raise Unfaithful("it breaks ties by distance")
    n = len(model.classes_)
    ends = np.cumsum(model.n_support_)
    starts = ends - model.n_support_
    dual, pairs = model._dual_coef_, [(i, j) for i in range(n) for j in range(i + 1, n)]
    weights = np.zeros((dual.shape[1], len(pairs)))
    for column, (i, j) in enumerate(pairs):
        weights[starts[i] : ends[i], column] = dual[j - 1, starts[i] : ends[i]]
        weights[starts[j] : ends[j], column] = dual[i, starts[j] : ends[j]]
    raw = _dense(graph, _kernel(graph, model, tensor), weights, model._intercept_)
    first = graph.op("Greater", raw, graph.constant(0.0))
    if n == 2:  # libsvm counts a positive decision for the first class
        votes = graph.cast_name(graph.op("Not", first), np.int64)
        return Drawn(graph.flat(votes), np.int64, model.classes_, decision=graph.op("Neg", raw))
    for_i, for_j = np.zeros((len(pairs), n)), np.zeros((len(pairs), n))
    for column, (i, j) in enumerate(pairs):
        for_i[column, i] = 1.0
        for_j[column, j] = 1.0
    hits = graph.cast_name(first, np.float64)
    votes = _dense(graph, hits, for_i - for_j, for_j.sum(axis=0))
    return Drawn(greatest(graph, votes), np.int64, model.classes_)


def support_numbers(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """SVR and NuSVR."""
    kernel = _kernel(graph, model, tensor)
    return regression(graph, _dense(graph, kernel, model._dual_coef_.T, model._intercept_), None)


def support_outliers(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """OneClassSVM."""
    kernel = _kernel(graph, model, tensor)
    raw = graph.flat(_dense(graph, kernel, model._dual_coef_.T, model._intercept_))
    return outliers(graph, raw, zero_is_inlier=False)


def clusters(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """KMeans and MiniBatchKMeans: the first nearest centre."""
    centres = np.asarray(model.cluster_centers_, dtype=np.float64)
    far = _dense(graph, _wide(graph, tensor), -2.0 * centres.T, np.sum(centres**2, axis=1))
    nearest = graph.op("ArgMin", far, axis=1, keepdims=0)
    return Drawn(graph.cast_name(nearest, np.int32), np.int32)


def envelope(graph: Graph, model: Any, tensor: Tensor) -> Drawn:
    """EllipticEnvelope: minus the squared Mahalanobis distance, less the offset."""
    apart = graph.op("Sub", _wide(graph, tensor), graph.constant(model.location_))
    turned = graph.op("MatMul", apart, graph.constant(model.get_precision()))
    axis = graph.constant([1], np.int64)
    far = graph.op("ReduceSum", graph.op("Mul", turned, apart), axis, keepdims=0)
    samples = graph.op("Neg", far)
    return outliers(graph, graph.op("Sub", samples, graph.constant(float(model.offset_))))
