"""A package of a mixed model, made once, and tables for it."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell.packing import pack


def plans(rows: int, seed: int = 5) -> pd.DataFrame:
    """An id, numbers and texts with gaps, booleans, and columns that only go along."""
    draw = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": np.arange(rows),
            "usage": draw.normal(10, 3, rows).round(3),
            "plan": draw.choice(["basic", "plus", "prö"], rows).astype(object),
            "active": draw.random(rows) < 0.5,
            "note": [f"n° {number}" for number in range(rows)],
        }
    )
    table.loc[::7, "usage"] = np.nan
    table.loc[::5, "plan"] = np.nan
    return table


def arrow(rows: int, seed: int = 5) -> pa.Table:
    """The same as an Arrow table without pandas' metadata."""
    table = pa.Table.from_pandas(plans(rows, seed), preserve_index=False)
    return table.replace_schema_metadata(None)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `plans` 1.0.0, compiled: classes high and low."""
    folder = tmp_path_factory.mktemp("batch-models")
    table = plans(400)
    inputs = table[["usage", "plan", "active"]]
    label = np.where(table["usage"].fillna(0) + 5 * table["active"] > 10, "high", "low")
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(), StandardScaler()), ["usage"]),
            (
                "s",
                OneHotEncoder(handle_unknown="ignore"),
                ["plan"],
            ),
            ("b", "passthrough", ["active"]),
        ]
    )
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(inputs, label), folder / "p.pkl")
    inputs.to_parquet(folder / "sample.parquet")
    made = folder / "models"
    pack([folder / "p.pkl"], name="plans", sample=folder / "sample.parquet", repository=made)
    return made
