"""Jobs of tree models take the form for many rows, and answer what is answered online."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import GradientBoostingClassifier

import foretell
from foretell.packing import pack
from tests.transports.batch.files import written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a gradient boosting of three columns."""
    folder = tmp_path_factory.mktemp("trees")
    table = rows(500)
    label = (table["a"] * table["b"] > table["c"]).map({True: "yes", False: "no"})
    model = GradientBoostingClassifier(random_state=0).fit(table, label)
    joblib.dump(model, folder / "m.pkl")
    table.to_parquet(folder / "sample.parquet")
    pack(
        [folder / "m.pkl"],
        name="trees",
        sample=folder / "sample.parquet",
        repository=folder / "models",
    )
    return folder / "models"


def rows(n: int) -> pd.DataFrame:
    draw = np.random.default_rng(n)
    return pd.DataFrame({name: draw.normal(0, 1, n).round(2) for name in "abc"})


def test_a_job_of_trees_answers_in_bulk_what_is_answered_online(
    trees: Path, tmp_path: Path
) -> None:
    table = pa.Table.from_pandas(rows(20_000), preserve_index=False)
    pq.write_table(table, tmp_path / "in.parquet")
    foretell.batch(trees, tmp_path / "in.parquet", tmp_path / "out", part_rows=7_000)
    assert json.loads((tmp_path / "out/_foretell/job.json").read_text())["bulk"] is True
    got = written(tmp_path / "out")
    online = foretell.load(trees).predict(table)
    assert got["prediction"].to_pylist() == online["prediction"].tolist()
    assert np.abs(got["probability"].to_numpy() - online["probability"][:, 1]).max() < 1e-12


def test_few_rows_at_a_time_are_answered_as_online(trees: Path, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(rows(50), preserve_index=False)
    pq.write_table(table, tmp_path / "in.parquet")
    foretell.batch(trees, tmp_path / "in.parquet", tmp_path / "out", batch_rows=1)
    assert json.loads((tmp_path / "out/_foretell/job.json").read_text())["bulk"] is False
