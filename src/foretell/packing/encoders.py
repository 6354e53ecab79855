"""Encoders are the parts of a model that know which values a column had in training.

Walks scikit-learn's own Pipeline and ColumnTransformer down to the first part that a raw column
meets. An imputer in front of an encoder is passed through, because it keeps its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.core.field import Scalar


@dataclass(frozen=True, slots=True)
class Seen:
    """What an encoder knows of a column: its values (None for free text), and if one is None."""

    values: tuple[Scalar, ...] | None
    has_none: bool = False

    @property
    def is_text(self) -> bool:
        return self.values is None or any(isinstance(value, str) for value in self.values)


def seen_by(estimator: Any, names: Sequence[str]) -> dict[str, Seen]:
    """What the encoders inside `estimator` know of the columns `names`."""
    return dict(_walk(estimator, list(names)))


def takes_texts(estimator: Any) -> bool:
    """Whether `estimator` takes a sequence of texts instead of a table."""
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
    from sklearn.pipeline import Pipeline

    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[0][1]
    return isinstance(estimator, CountVectorizer | HashingVectorizer)


def _walk(part: Any, names: list[str]) -> Iterator[tuple[str, Seen]]:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    if isinstance(part, Pipeline):
        for _, inner in part.steps:
            if not _is_imputer(inner):
                yield from _walk(inner, names)
                return
    elif isinstance(part, ColumnTransformer):
        places = part._transformer_to_input_indices
        for label, inner, _ in part.transformers_:
            if not isinstance(inner, str):
                yield from _walk(inner, [names[place] for place in places[label]])
    elif takes_texts(part):
        yield from ((name, Seen(None)) for name in names)
    else:
        yield from zip(names, _encoded(part), strict=False)


def _is_imputer(part: Any) -> bool:
    from sklearn.impute import SimpleImputer

    return isinstance(part, SimpleImputer) or part in (None, "passthrough")


def _encoded(part: Any) -> Iterator[Seen]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

    if isinstance(part, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        return
    if isinstance(part, OneHotEncoder | OrdinalEncoder | TargetEncoder):
        for values in part.categories_:
            known = values.tolist()
            there = [value for value in known if not _is_missing(value)]
            yield Seen(tuple(there), any(value is None for value in known))


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
