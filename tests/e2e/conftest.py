"""A trained scaler and model in files, and the package made of them."""

import shutil
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from foretell.packing import pack


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scaler.pkl, model.pkl and sample.csv of the brief's four features."""
    folder = tmp_path_factory.mktemp("trained")
    draw = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "age": draw.uniform(18, 80, 100).round(),
            "tenure": draw.integers(1, 72, 100),
            "monthly_charges": draw.uniform(20, 120, 100).round(2),
            "total_charges": draw.uniform(20, 8000, 100).round(2),
        }
    )
    scaler = StandardScaler().fit(table)
    model = LogisticRegression().fit(scaler.transform(table), (table["tenure"] < 20).astype(int))
    joblib.dump(scaler, folder / "scaler.pkl")
    joblib.dump(model, folder / "model.pkl")
    table.to_csv(folder / "sample.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def churn(trained: Path) -> Path:
    """A repository that holds churn 1.0.0."""
    files = [trained / "scaler.pkl", trained / "model.pkl"]
    pack(files, name="churn", sample=trained / "sample.csv", repository=trained / "models")
    return trained / "models"


@pytest.fixture
def own_churn(churn: Path, tmp_path: Path) -> Path:
    """A copy of that repository, to be spoilt."""
    return Path(shutil.copytree(churn, tmp_path / "models"))
