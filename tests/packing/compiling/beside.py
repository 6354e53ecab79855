"""Rows beside the jumps of a model, found by bisection: nothing of the compiler's own is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_STEPS = 1100
"""Halving a span of float64 that many times leaves two neighbours, whatever its size."""


def told(model: Any, frame: pd.DataFrame) -> Any:
    """The model's finest answer to each row, [N, k]."""
    method = getattr(model, "predict_proba", model.predict)
    return np.asarray(method(frame)).reshape(len(frame), -1)


def beside_jumps(model: Any, frame: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Pairs of rows, neighbours in one float64 column, that `model` answers differently.

    With them come rows a few representable float64 and float32 steps away. Rows and columns are
    drawn with `seed`; those whose ends are answered alike are left out.
    """
    random = np.random.default_rng(seed)
    columns = [place for place, dtype in enumerate(frame.dtypes) if dtype == np.float64]
    picked = random.choice(columns, n_rows)
    base = frame.iloc[random.integers(0, len(frame), n_rows)].reset_index(drop=True)
    numbers = frame.iloc[:, columns]
    least, most = numbers.min(), numbers.max()
    low = np.array([least.iloc[columns.index(place)] for place in picked])
    high = np.array([most.iloc[columns.index(place)] for place in picked])
    at_low = told(model, _with(base, picked, low))
    jumps = (at_low != told(model, _with(base, picked, high))).any(axis=1)
    for _ in range(_STEPS):
        middle = low + (high - low) / 2
        if ((middle <= low) | (middle >= high) | ~jumps).all():
            break
        same = (told(model, _with(base, picked, middle)) == at_low).all(axis=1)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    single = low.astype(np.float32)
    near = [low, high, np.nextafter(low, -np.inf), np.nextafter(high, np.inf), single]
    near += [np.nextafter(single, np.float32(edge)) for edge in (-np.inf, np.inf)]
    rows = [_with(base, picked, np.float64(values))[jumps] for values in near]
    return pd.concat(rows, ignore_index=True)


def _with(base: pd.DataFrame, picked: Any, values: Any) -> pd.DataFrame:
    rows = base.copy()
    for place in np.unique(picked):
        here = picked == place
        rows.iloc[np.flatnonzero(here), place] = values[here]
    return rows
