"""The steps in front of a model: scikit-learn's transformers, drawn as they compute.

Arithmetic is that of their `transform` (scikit-learn 1.9, preprocessing/_data.py,
decomposition/_base.py, impute/_base.py), in the float dtype of the columns: float32 stays
float32, all else is float64.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.categories import (
    one_hot,
    ordinal,
    target_codes,
    texts_imputed,
)
from foretell.packing.compiling.drawing.graph import Graph, Origin, Tensor, Unfaithful
from foretell.packing.compiling.drawing.sheet import Sheet, matrix_sheet

_MOST_TERMS = 20_000
DrawStep = Callable[[Graph, Any, Tensor], Tensor]


def draw_step(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    """What `step.transform` makes of `sheet`. Raises Unfaithful for what is not known."""
    if step is None or step == "passthrough":
        return sheet
    kind, module = type(step).__name__, type(step).__module__
    if not module.startswith("sklearn."):
        raise Unfaithful(f"{kind} is not one of scikit-learn's own steps")
    match kind:
        case "Pipeline":
            for _, inner in step.steps:
                sheet = draw_step(graph, inner, sheet)
            return sheet
        case "ColumnTransformer":
            return _columns(graph, step, sheet)
        case "FeatureUnion":
            return _union(graph, step, sheet)
        case "OneHotEncoder":
            return one_hot(graph, step, sheet)
        case "OrdinalEncoder":
            return ordinal(graph, step, sheet)
        case "TargetEncoder":
            return target_codes(graph, step, sheet)
        case "SimpleImputer" if any(part.is_text for part in sheet.parts):
            return texts_imputed(graph, step, sheet)
        case "FunctionTransformer":
            return _function(graph, step, sheet)
    if hasattr(step, "get_support"):
        return sheet.select(graph, step.get_support(indices=True))
    if kind not in _NUMERIC:
        raise Unfaithful(f"there is no exact graph of {kind}")
    return matrix_sheet(_NUMERIC[kind](graph, step, _floats(graph, sheet.matrix(graph))))


def _floats(graph: Graph, tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == np.float32 else graph.cast(tensor, np.float64)


def _columns(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    places = step._transformer_to_input_indices
    parts: dict[str, Tensor] = {}
    for label, inner, _ in step.transformers_:
        chosen = [int(place) for place in places[label]]
        if isinstance(inner, str) and inner == "drop":
            continue
        if chosen:
            made = draw_step(graph, inner, sheet.select(graph, chosen))
            weight = (step.transformer_weights or {}).get(label)
            parts[label] = made.matrix(graph)
            if weight is not None:
                parts[label] = _affine(graph, parts[label], "Mul", np.array(weight))
    spots = step.output_indices_
    ordered = sorted(parts, key=lambda label: (spots[label].start, spots[label].stop))
    dtype = np.result_type(*(parts[label].dtype for label in ordered))
    return matrix_sheet(graph.join([graph.cast(parts[label], dtype) for label in ordered]))


def _union(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    if step.transformer_weights:
        raise Unfaithful("its FeatureUnion has weights")
    made = [
        draw_step(graph, inner, sheet).matrix(graph)
        for _, inner in step.transformer_list
        if not (isinstance(inner, str) and inner == "drop")
    ]
    dtype = np.result_type(*(part.dtype for part in made))
    return matrix_sheet(graph.join([graph.cast(part, dtype) for part in made]))


def _function(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    name = getattr(step.func, "__name__", None) if step.func is not None else None
    checked = getattr(getattr(step.func, "func", None), "__name__", "") == "check_array"
    if step.func is None or checked:
        return matrix_sheet(graph.cast(sheet.matrix(graph), np.float64)) if checked else sheet
    kinds = {"sqrt": "Sqrt", "log": "Log", "exp": "Exp", "absolute": "Abs"}
    if name not in kinds or not isinstance(step.func, np.ufunc) or step.kw_args:
        raise Unfaithful(f"its FunctionTransformer calls {name or 'a function'}")
    tensor = _floats(graph, sheet.matrix(graph))
    blank = (None,) * tensor.width
    return matrix_sheet(Tensor(graph.op(kinds[name], tensor.name), tensor.dtype, blank))


def _affine(graph: Graph, tensor: Tensor, kind: str, values: Array) -> Tensor:
    """`tensor` with one of + - * / by a constant a column."""
    constant = graph.constant(values, tensor.dtype)
    numbers = np.broadcast_to(np.asarray(values, dtype=np.float64), (tensor.width,))
    origins: list[Origin | None] = []
    for origin, number in zip(tensor.origins, numbers.tolist(), strict=True):
        if origin is None:
            origins.append(None)
            continue
        scale, offset = origin.scale, origin.offset
        match kind:
            case "Add":
                offset += number
            case "Sub":
                offset -= number
            case "Mul":
                scale, offset = scale * number, offset * number
            case "Div":
                scale, offset = scale / number, offset / number
        origins.append(Origin(origin.column, scale, offset))
    return Tensor(graph.op(kind, tensor.name, constant), tensor.dtype, tuple(origins))


def _standard(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    if step.with_mean:
        tensor = _affine(graph, tensor, "Sub", step.mean_)
    return _affine(graph, tensor, "Div", step.scale_) if step.with_std else tensor


def _min_max(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    tensor = _affine(graph, tensor, "Mul", step.scale_)
    tensor = _affine(graph, tensor, "Add", step.min_)
    if not step.clip:
        return tensor
    low, high = (graph.constant(edge, tensor.dtype) for edge in step.feature_range)
    return Tensor(graph.op("Clip", tensor.name, low, high), tensor.dtype, tensor.origins)


def _max_abs(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    return _affine(graph, tensor, "Div", step.scale_)


def _robust(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    if step.with_centering:
        tensor = _affine(graph, tensor, "Sub", step.center_)
    return _affine(graph, tensor, "Div", step.scale_) if step.with_scaling else tensor


def _normal(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    axis = graph.constant([1], np.int64)
    sizes = graph.op("Abs", tensor.name)
    match step.norm:
        case "l1":
            norms = graph.op("ReduceSum", sizes, axis, keepdims=1)
        case "l2":
            squares = graph.op("Mul", tensor.name, tensor.name)
            norms = graph.op("Sqrt", graph.op("ReduceSum", squares, axis, keepdims=1))
        case _:
            norms = graph.op("ReduceMax", sizes, axis, keepdims=1)
    zero, one = graph.constant(0.0, tensor.dtype), graph.constant(1.0, tensor.dtype)
    norms = graph.op("Where", graph.op("Equal", norms, zero), one, norms)
    blank = (None,) * tensor.width
    return Tensor(graph.op("Div", tensor.name, norms), tensor.dtype, blank)


def _components(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    tensor = graph.cast(tensor, np.result_type(tensor.dtype, step.components_.dtype))
    weights = np.asarray(step.components_).T
    name = graph.op("MatMul", tensor.name, graph.constant(weights, tensor.dtype))
    if getattr(step, "mean_", None) is not None:
        centre = np.reshape(step.mean_, (1, -1)) @ weights
        name = graph.op("Sub", name, graph.constant(centre, tensor.dtype))
    if getattr(step, "whiten", False):
        scale = np.sqrt(step.explained_variance_)
        scale = np.maximum(scale, np.finfo(scale.dtype).eps)
        name = graph.op("Div", name, graph.constant(scale, tensor.dtype))
    return Tensor(name, tensor.dtype, (None,) * weights.shape[1])


def _polynomial(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    """Terms in scikit-learn's order.

    A term's factors are multiplied from the last to the first, as each degree is made of the
    one before.
    """
    k = tensor.width
    choose = combinations if step.interaction_only else combinations_with_replacement
    low = step._min_degree
    terms = [
        term
        for degree in range(max(low, 1), step._max_degree + 1)
        for term in choose(range(k), degree)
    ]
    if len(terms) > _MOST_TERMS:
        raise Unfaithful(f"its polynomial has {len(terms):,} terms")
    deepest = max((len(term) for term in terms), default=0)
    if not deepest:
        raise Unfaithful("its polynomial is a constant")
    # columns are picked as rows of the transposed: whole stretches of memory
    zero, one = graph.constant(0.0, tensor.dtype), graph.constant(1.0, tensor.dtype)
    turned = graph.op("Transpose", tensor.name, perm=[1, 0])
    row = graph.op("Gather", turned, graph.constant([0], np.int64), axis=0)
    ones = graph.op("Add", graph.op("Mul", row, zero), one)
    padded = graph.op("Concat", turned, ones, axis=0)
    made = ""
    for place in range(1, deepest + 1):
        spots = [term[-place] if place <= len(term) else k for term in terms]
        factor = graph.op("Gather", padded, graph.constant(spots, np.int64), axis=0)
        made = factor if place == 1 else graph.op("Mul", made, factor)
    origins = [tensor.origins[term[0]] if len(term) == 1 else None for term in terms]
    if step.include_bias:
        made, origins = graph.op("Concat", ones, made, axis=0), [None, *origins]
    return Tensor(graph.op("Transpose", made, perm=[1, 0]), tensor.dtype, tuple(origins))


def _imputed(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    wanted = step.missing_values
    if not (isinstance(wanted, float) and np.isnan(wanted)):
        raise Unfaithful(f"its imputer replaces {wanted!r}")
    if step.add_indicator:
        raise Unfaithful("its imputer adds indicators of missing values")
    fill = np.asarray(step.statistics_, dtype=np.float64)
    if not step.keep_empty_features:
        kept = np.flatnonzero(~np.isnan(fill))
        tensor, fill = graph.pick(tensor, kept.tolist()), fill[kept]
    missing = graph.op("IsNaN", tensor.name)
    name = graph.op("Where", missing, graph.constant(fill, tensor.dtype), tensor.name)
    return Tensor(name, tensor.dtype, tensor.origins)


def _binarised(graph: Graph, step: Any, tensor: Tensor) -> Tensor:
    limits = np.array([step.threshold])
    for place in range(tensor.width):
        graph.cut(tensor, place, limits)
    over = graph.op("Greater", tensor.name, graph.constant(step.threshold, tensor.dtype))
    return Tensor(graph.cast_name(over, tensor.dtype), tensor.dtype, (None,) * tensor.width)


_NUMERIC: dict[str, DrawStep] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "Normalizer": _normal,
    "PCA": _components,
    "IncrementalPCA": _components,
    "TruncatedSVD": _components,
    "PolynomialFeatures": _polynomial,
    "SimpleImputer": _imputed,
    "Binarizer": _binarised,
}
