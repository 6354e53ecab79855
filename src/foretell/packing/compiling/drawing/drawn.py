"""A drawn model is the tensors of a graph that answer as one model does.

The link functions are those of the originals: scipy's `expit` and `softmax` by their formulas
in float64, labels by the comparison the original makes (`> 0`, `>= 0`, the first maximum).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.graph import Graph, Tensor

DrawModel = Callable[[Graph, Any, Tensor], "Drawn"]
"""Draws an estimator over a tensor of columns: what ensembles of models call for their parts."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Names of tensors.

    `prediction` is a classifier's class index, int64 [N]; else the answer, [N] or [N, targets].
    `decision` is what `decision_function` gives, [N] or [N, classes], where it is drawn.
    """

    prediction: str
    dtype: Any = np.float64
    classes: Array | None = None
    probability: str | None = None
    score: str | None = None
    decision: str | None = None
    targets: int | None = None


def sigmoid(graph: Graph, raw: str) -> str:
    """1 / (1 + exp(-raw))."""
    return graph.op("Sigmoid", raw)


def both(graph: Graph, positive: str, dtype: Any = np.float64) -> str:
    """[1 - p, p] of p [N], which is of `dtype`."""
    rest = graph.op("Sub", graph.constant(1.0, dtype), positive)
    return graph.op("Concat", graph.column(rest), graph.column(positive), axis=1)


def softmax(graph: Graph, raw: str) -> str:
    """exp(raw - max) normalised over the columns."""
    return graph.op("Softmax", raw, axis=1)


def greatest(graph: Graph, values: str) -> str:
    """The index [N] of the first greatest column of `values`."""
    return graph.op("ArgMax", values, axis=1, keepdims=0)


def above(
    graph: Graph, raw: str, limit: float = 0.0, *, dtype: Any = np.float64, equal: bool = False
) -> str:
    """Whether `raw` [N], which is of `dtype`, is above `limit`, as an index [N]."""
    kind = "GreaterOrEqual" if equal else "Greater"
    over = graph.op(kind, raw, graph.constant(limit, dtype))
    return graph.cast_name(over, np.int64)


def binary(graph: Graph, raw: str, classes: Array, *, equal: bool = False) -> Drawn:
    """A classifier of two classes with the log-odds `raw` [N, 1]."""
    flat = graph.flat(raw)
    label, chances = above(graph, flat, equal=equal), both(graph, sigmoid(graph, flat))
    return Drawn(label, np.int64, classes, chances, decision=raw)


def multinomial(graph: Graph, raw: str, classes: Array) -> Drawn:
    """A classifier with one unnormalised logarithm a class, `raw` [N, K]."""
    chances = softmax(graph, raw)
    return Drawn(greatest(graph, raw), np.int64, classes, probability=chances, decision=raw)


def likeliest(graph: Graph, probability: str, classes: Array) -> Drawn:
    """A classifier whose label is the first class of the greatest probability."""
    return Drawn(greatest(graph, probability), np.int64, classes, probability=probability)


def regression(graph: Graph, values: str, targets: int | None) -> Drawn:
    """A regressor's float64 values [N, targets]; [N] when `targets` is None."""
    return Drawn(values if targets is not None else graph.flat(values), targets=targets)


def outliers(graph: Graph, score: str, *, zero_is_inlier: bool = True) -> Drawn:
    """An outlier detector with the decision `score` [N]: 1 inside, -1 outside."""
    zero = graph.constant(0.0, np.float64)
    inside = graph.op("GreaterOrEqual" if zero_is_inlier else "Greater", score, zero)
    one, minus = graph.constant(1, np.int64), graph.constant(-1, np.int64)
    return Drawn(graph.op("Where", inside, one, minus), np.int64, score=score)
