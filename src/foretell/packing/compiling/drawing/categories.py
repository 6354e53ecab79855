"""The encoders of categories: one-hot, ordinal and target codes, and the imputer of texts.

Sources (scikit-learn 1.9, preprocessing/_encoders.py, _target_encoder.py, impute/_base.py).
A missing text is one of the categories when the encoder saw it in training and the original's
table holds the same marker of it (NaN or None); else it is an unknown one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.packing.compiling.drawing.graph import Graph, Tensor, Unfaithful
from foretell.packing.compiling.drawing.sheet import Sheet, matrix_sheet

_UNKNOWN = -1


def codes(graph: Graph, column: Tensor, categories: Array, *, missing_is_nan: bool) -> str:
    """The index of each value among `categories`, int64 [N, 1]; -1 for an unknown one."""
    if column.is_text:
        table = {
            graph.code(column, value if isinstance(value, str) else None): place
            for place, value in enumerate(categories.tolist())
            if _is_known(value, missing_is_nan)
        }
        return graph.lookup(column.name, table, _UNKNOWN)
    numbers = graph.cast(column, np.float64)
    try:
        values = np.asarray(categories, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Unfaithful("an encoder knows texts of a column of numbers") from error
    graph.cut(column, 0, values[~np.isnan(values)])
    same = graph.op("Equal", numbers.name, graph.constant(values.reshape(1, -1)))
    if np.isnan(values).any():
        missing = graph.op("IsNaN", numbers.name)
        blank = graph.constant(np.isnan(values).reshape(1, -1))
        same = graph.op("Or", same, graph.op("And", missing, blank))
    hits = graph.cast_name(same, np.int64)
    # the place counted from 1, so that no hit sums up to 0
    places = graph.constant(np.arange(1, len(values) + 1).reshape(1, -1), np.int64)
    axis = graph.constant([1], np.int64)
    found = graph.op("ReduceSum", graph.op("Mul", hits, places), axis, keepdims=1)
    return graph.op("Sub", found, graph.constant(1, np.int64))


def _is_known(value: Any, missing_is_nan: bool) -> bool:
    """Whether a text, or what is missing in the table, can be this category."""
    if value is None:
        return not missing_is_nan
    if isinstance(value, float) and np.isnan(value):
        return missing_is_nan
    return isinstance(value, str)


def _remapped(graph: Graph, found: str, table: Array, unknown: float, dtype: Any) -> str:
    """`table[code]` for each code, `unknown` for -1; [N, 1]."""
    whole = np.append(np.asarray(table, dtype=dtype), np.asarray(unknown, dtype=dtype))
    size = graph.constant(len(table), np.int64)
    below = graph.op("Less", found, graph.constant(0, np.int64))
    spot = graph.op("Where", below, size, found)
    return graph.op("Gather", graph.constant(whole), spot, axis=0)


def one_hot(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    """OneHotEncoder, dense: with dropped and infrequent categories as it was told."""
    parts = []
    dropped = step._drop_idx_after_grouping
    for place, categories in enumerate(step.categories_):
        found = codes(
            graph,
            sheet.column(graph, place),
            categories,
            missing_is_nan=sheet.missing_is_nan,
        )
        mapping = np.arange(len(categories))
        unknown = _UNKNOWN
        if step._infrequent_enabled:
            grouped = step._default_to_infrequent_mappings[place]
            mapping = mapping if grouped is None else np.asarray(grouped)
            rare = step._infrequent_indices[place]
            if rare is not None and step.handle_unknown in ("infrequent_if_exist", "warn"):
                unknown = int(mapping[rare[0]])
        width = step._n_features_outs[place]
        if dropped is not None and dropped[place] is not None:
            gone = int(dropped[place])
            shifted = np.where(mapping > gone, mapping - 1, mapping)
            unknown = unknown - 1 if unknown > gone else (_UNKNOWN if unknown == gone else unknown)
            mapping = np.where(mapping == gone, _UNKNOWN, shifted)
        if unknown != _UNKNOWN or (mapping != np.arange(len(categories))).any():
            found = _remapped(graph, found, mapping, unknown, np.int64)
        if width:
            parts.append(graph.hot(found, width, step.dtype))
    return matrix_sheet(graph.join(parts))


def ordinal(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    """OrdinalEncoder: with a code of its own for unknown and for missing values."""
    parts = []
    for place, categories in enumerate(step.categories_):
        found = codes(
            graph,
            sheet.column(graph, place),
            categories,
            missing_is_nan=sheet.missing_is_nan,
        )
        mapping = np.arange(len(categories), dtype=np.float64)
        if step._infrequent_enabled:
            grouped = step._default_to_infrequent_mappings[place]
            mapping = mapping if grouped is None else np.asarray(grouped, dtype=np.float64)
        if place in step._missing_indices:
            mapping[step._missing_indices[place]] = step.encoded_missing_value
        unknown = step.unknown_value if step.handle_unknown == "use_encoded_value" else np.nan
        name = _remapped(graph, found, mapping, unknown, step.dtype)
        parts.append(Tensor(name, np.dtype(step.dtype), (None,)))
    return matrix_sheet(graph.join(parts))


def target_codes(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    """TargetEncoder of one target: each category's mean, the overall one for the unknown."""
    if step.target_type_ == "multiclass":
        raise Unfaithful("its TargetEncoder has several classes")
    parts = []
    for place, (categories, means) in enumerate(
        zip(step.categories_, step.encodings_, strict=True)
    ):
        found = codes(
            graph,
            sheet.column(graph, place),
            categories,
            missing_is_nan=sheet.missing_is_nan,
        )
        name = _remapped(graph, found, means, float(step.target_mean_), np.float64)
        parts.append(Tensor(name, np.dtype(np.float64), (None,)))
    return matrix_sheet(graph.join(parts))


def texts_imputed(graph: Graph, step: Any, sheet: Sheet) -> Sheet:
    """SimpleImputer over texts: the missing ones become its statistic."""
    wanted = step.missing_values
    is_nan = isinstance(wanted, float) and np.isnan(wanted)
    if step.add_indicator or not (is_nan or wanted is None):
        raise Unfaithful(f"its imputer of texts replaces {wanted!r} or adds indicators")
    parts = []
    for place, fill in enumerate(step.statistics_):
        column = sheet.column(graph, place)
        if not column.is_text or not isinstance(fill, str):
            raise Unfaithful("its imputer of texts takes other columns, too")
        if is_nan == sheet.missing_is_nan:
            blank = graph.constant([[graph.code(column, None)]], np.int64)
            filled = graph.constant([[graph.code(column, fill)]], np.int64)
            name = graph.op("Where", graph.op("Equal", column.name, blank), filled, column.name)
            column = replace(column, name=name)
        parts.append(column)
    return Sheet(tuple(parts), sheet.names, sheet.missing_is_nan, sheet.categorical)
