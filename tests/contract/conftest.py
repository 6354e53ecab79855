"""The models every door serves in these tests, and the doors."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell.packing import pack
from tests.servers import Server, running

Originals = dict[str, Any]


def churn_table(rows: int = 200) -> pd.DataFrame:
    """The brief's four features."""
    draw = np.random.default_rng(7)
    tenure = draw.integers(1, 72, rows)
    monthly = draw.uniform(20, 120, rows).round(2)
    return pd.DataFrame(
        {
            "age": draw.integers(18, 80, rows).astype(float),
            "tenure": tenure,
            "monthly_charges": monthly,
            "total_charges": (tenure * monthly).round(2),
        }
    )


def plans_table(rows: int = 200) -> pd.DataFrame:
    """Numbers, strings and booleans, with missing values."""
    draw = np.random.default_rng(11)
    table = pd.DataFrame(
        {
            "usage": draw.normal(10, 3, rows),
            "plan": draw.choice(["basic", "plus", "pro"], rows).astype(object),
            "active": draw.random(rows) < 0.5,
        }
    )
    table.loc[::7, "usage"] = np.nan
    table.loc[::5, "plan"] = np.nan
    return table


@pytest.fixture(scope="session")
def originals() -> Originals:
    """The trained originals, by model name: what scikit-learn itself answers with."""
    churn, plans = churn_table(), plans_table()
    left = (churn["tenure"] < 20).to_numpy().astype(int)
    scaler = StandardScaler().fit(churn)
    mixed = make_pipeline(
        ColumnTransformer(
            [
                ("n", make_pipeline(SimpleImputer(), StandardScaler()), ["usage"]),
                ("s", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
                ("b", "passthrough", ["active"]),
            ]
        ),
        LogisticRegression(),
    )
    label = np.where(plans["usage"].fillna(0) + 5 * plans["active"] > 10, "high", "low")
    return {
        "scaler": scaler,
        "churn": LogisticRegression().fit(scaler.transform(churn), left),
        "plans": mixed.fit(plans, label),
        "price": LinearRegression().fit(churn.to_numpy(), churn["total_charges"] * 1.1),
    }


@pytest.fixture(scope="session")
def repository(originals: Originals, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of five models, one of them with two versions, one of them compiled."""
    folder = tmp_path_factory.mktemp("contract")
    made = folder / "models"
    churn_table().to_csv(folder / "churn.csv", index=False)
    plans_table().to_parquet(folder / "plans.parquet")
    for name, model in originals.items():
        joblib.dump(model, folder / f"{name}.pkl")
    chain = [folder / "scaler.pkl", folder / "churn.pkl"]
    as_is = partial(pack, repository=made, compile=False)  # answers are compared to the last bit
    for version in ("1.0.0", "1.10.0"):
        as_is(chain, name="churn", version=version, sample=folder / "churn.csv")
    as_is([folder / "plans.pkl"], name="plans", sample=folder / "plans.parquet")
    pack([folder / "plans.pkl"], name="compiled", sample=folder / "plans.parquet", repository=made)
    pack([folder / "price.pkl"], name="price", sample=folder / "churn.csv", repository=made)
    pack(["moody:Moody"], name="moody", repository=made, python_path=Path(__file__).parent)
    return made


@pytest.fixture(scope="session", params=["h2corn", pytest.param("uvicorn", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, repository: Path) -> Iterator[Server]:
    """The application under each server that can run it."""
    arguments = ["--default-model", "churn", "--max-body-bytes", "8000000", "--max-rows", "100000"]
    arguments += ["--executor", "auto,moody=thread"]
    with running(repository, *arguments, "--server", request.param) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
