"""Kinds of models over real data sets, each with the candidate that must win, or the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from tests import models

Data = tuple[pd.DataFrame, Any]


@dataclass(frozen=True)
class Kind:
    """An untrained model, its data, the name of the graph that wins (None: the original)."""

    make: Callable[[], Any]
    data: Callable[[], Data]
    chosen: str | None = "mixed"
    trust: bool = False
    reason: str = ""


def _bundled(name: str, rows: int) -> Data:
    from sklearn import datasets

    frame, y = getattr(datasets, f"load_{name}")(return_X_y=True, as_frame=True)
    frame.columns = [column.replace(" ", "_").replace("/", "_") for column in frame.columns]
    return frame.iloc[:rows], y.iloc[:rows]


@cache
def iris() -> Data:
    frame, y = models.numbers()
    return frame, np.array(["setosa", "versicolor", "virginica"])[y]


@cache
def wine() -> Data:
    return _bundled("wine", 178)


@cache
def cancer() -> Data:
    frame, y = _bundled("breast_cancer", 400)
    return frame, y == 1


@cache
def cancer_with_gaps() -> Data:
    frame, y = cancer()
    frame = frame.copy()
    frame.iloc[::3, ::2] = np.nan
    frame.iloc[::5, 1] = 0.0
    return frame, y.astype(int)


@cache
def digits() -> Data:
    return _bundled("digits", 300)


@cache
def diabetes() -> Data:
    return _bundled("diabetes", 300)


@cache
def two_targets() -> Data:
    frame, y = diabetes()
    return frame, np.column_stack([y, frame["bmi"] * 3])


@cache
def tiny_numbers() -> Data:
    """Whole numbers only: other datatypes than float64."""
    frame, y = models.churn()
    return frame[["tenure", "senior_citizen"]].astype(int), (y == "Yes").astype(int)


@cache
def churn() -> Data:
    frame, y = models.churn()
    return frame.iloc[:600], y.iloc[:600]


@cache
def churn_categories() -> Data:
    frame, y = churn()
    frame = frame.copy()
    for name in models.CHURN_TEXTS:
        frame[name] = frame[name].astype("category")
    return frame, (y == "Yes").astype(int)


def _scaled(make: Callable[[], Any]) -> Callable[[], Any]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return lambda: make_pipeline(StandardScaler(), make())


def _columns(texts: Callable[[], Any], make: Callable[[], Any]) -> Callable[[], Any]:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return lambda: make_pipeline(
        ColumnTransformer(
            [("n", numbers, models.CHURN_NUMBERS), ("t", texts(), models.CHURN_TEXTS)],
            remainder="passthrough",
        ),
        make(),
    )


def classifiers() -> dict[str, Kind]:
    from sklearn import discriminant_analysis, ensemble, linear_model, naive_bayes, svm, tree
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    def logistic() -> Any:
        return linear_model.LogisticRegression(max_iter=500)

    def small_tree() -> Any:
        return tree.DecisionTreeClassifier(max_depth=4, random_state=0)

    def voting(kind: str) -> Any:
        parts = [("a", logistic()), ("b", small_tree()), ("c", naive_bayes.GaussianNB())]
        return ensemble.VotingClassifier(parts, voting=kind)

    return {
        "logistic": Kind(_scaled(logistic), iris),
        "logistic, two classes": Kind(_scaled(logistic), cancer),
        "logistic of float32": Kind(_scaled(logistic), float32_numbers),
        "scaled tree of float32": Kind(_scaled(small_tree), float32_numbers),
        "gradient descent": Kind(_scaled(lambda: linear_model.SGDClassifier(random_state=0)), wine),
        "ridge": Kind(linear_model.RidgeClassifier, wine),
        "tree": Kind(small_tree, iris),
        "scaled tree": Kind(_scaled(small_tree), cancer),
        "tree with gaps": Kind(small_tree, cancer_with_gaps),
        "forest": Kind(
            _scaled(lambda: ensemble.RandomForestClassifier(20, random_state=0)), cancer
        ),
        "forest of ten classes": Kind(
            lambda: ensemble.RandomForestClassifier(10, min_samples_leaf=3, random_state=0), digits
        ),
        "forest of whole numbers": Kind(
            lambda: ensemble.RandomForestClassifier(10, max_depth=6, random_state=0), tiny_numbers
        ),
        "extra trees": Kind(lambda: ensemble.ExtraTreesClassifier(10, random_state=0), wine),
        "boosting": Kind(
            _scaled(lambda: ensemble.GradientBoostingClassifier(n_estimators=20)), cancer
        ),
        "boosting, three classes": Kind(
            lambda: ensemble.GradientBoostingClassifier(n_estimators=10), wine
        ),
        "boosting, exponential": Kind(
            lambda: ensemble.GradientBoostingClassifier(n_estimators=10, loss="exponential"), cancer
        ),
        "histogram": Kind(
            lambda: ensemble.HistGradientBoostingClassifier(max_iter=10), cancer_with_gaps
        ),
        "histogram, three classes": Kind(
            lambda: ensemble.HistGradientBoostingClassifier(max_iter=5), wine
        ),
        "adaptive": Kind(lambda: ensemble.AdaBoostClassifier(n_estimators=5), wine),
        "bagging": Kind(
            lambda: ensemble.BaggingClassifier(
                small_tree(), n_estimators=4, max_features=0.5, random_state=0
            ),
            cancer,
        ),
        "soft voting": Kind(_scaled(lambda: voting("soft")), wine),
        "hard voting": Kind(_scaled(lambda: voting("hard")), wine),
        "stacking": Kind(
            _scaled(
                lambda: ensemble.StackingClassifier([("a", small_tree()), ("b", logistic())], cv=2)
            ),
            wine,
        ),
        "calibrated": Kind(lambda: CalibratedClassifierCV(svm.LinearSVC(), cv=2), wine),
        "support vectors": Kind(_scaled(svm.SVC), wine),
        "linear support vectors": Kind(_scaled(svm.LinearSVC), cancer),
        "gaussian bayes": Kind(naive_bayes.GaussianNB, iris),
        "counted bayes": Kind(naive_bayes.MultinomialNB, digits),
        "discriminant": Kind(discriminant_analysis.LinearDiscriminantAnalysis, wine),
        "quadratic": Kind(discriminant_analysis.QuadraticDiscriminantAnalysis, iris),
        "network": Kind(
            _scaled(lambda: MLPClassifier(hidden_layer_sizes=(8,), max_iter=30, random_state=0)),
            digits,
        ),
        "network, two classes": Kind(
            _scaled(lambda: MLPClassifier(hidden_layer_sizes=(8,), max_iter=30, random_state=0)),
            cancer,
        ),
        "neighbours": Kind(KNeighborsClassifier, digits, chosen=None, reason="is not proven"),
    }


def regressors() -> dict[str, Kind]:
    from sklearn import ensemble, linear_model, svm, tree
    from sklearn.decomposition import PCA
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, RobustScaler

    return {
        "linear": Kind(linear_model.LinearRegression, diabetes),
        "lasso of robust": Kind(
            lambda: make_pipeline(RobustScaler(), linear_model.Lasso()), diabetes
        ),
        "ridge of terms": Kind(
            lambda: make_pipeline(MinMaxScaler(), PolynomialFeatures(2), linear_model.Ridge()),
            diabetes,
        ),
        "ridge of components": Kind(lambda: make_pipeline(PCA(4), linear_model.Ridge()), diabetes),
        "tree of numbers": Kind(
            lambda: tree.DecisionTreeRegressor(max_depth=6, random_state=0), diabetes
        ),
        "forest of numbers": Kind(
            lambda: ensemble.RandomForestRegressor(10, random_state=0), diabetes
        ),
        "forest of two targets": Kind(
            lambda: ensemble.ExtraTreesRegressor(5, max_depth=6, random_state=0), two_targets
        ),
        "boosting of numbers": Kind(
            _scaled(lambda: ensemble.GradientBoostingRegressor(n_estimators=20)), diabetes
        ),
        "histogram of numbers": Kind(
            lambda: ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson"), diabetes
        ),
        "voting of numbers": Kind(
            lambda: ensemble.VotingRegressor(
                [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))]
            ),
            diabetes,
        ),
        "support vectors of numbers": Kind(_scaled(svm.SVR), diabetes),
        "network of numbers": Kind(
            _scaled(lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0)),
            diabetes,
        ),
        "several": Kind(lambda: MultiOutputRegressor(linear_model.Ridge()), two_targets),
    }


@cache
def float32_numbers() -> Data:
    frame, y = cancer()
    return frame.astype(np.float32), y


@cache
def around_zero() -> Data:
    """Numbers around zero, where LightGBM has thresholds of 1e-35."""
    frame, y = cancer()
    signs = (frame - frame.median()).clip(-1, 1)
    return signs.where(signs.abs() > 0.1, 0.0), y


def boosters() -> dict[str, Kind]:
    import lightgbm
    import xgboost

    def light(**options: Any) -> Callable[[], Any]:
        return lambda: lightgbm.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1, **options)

    def extreme(**options: Any) -> Callable[[], Any]:
        return lambda: xgboost.XGBClassifier(n_estimators=10, n_jobs=1, **options)

    return {
        "lightgbm": Kind(light(), iris),
        "lightgbm with gaps": Kind(light(), cancer_with_gaps),
        "lightgbm, zero is missing": Kind(light(zero_as_missing=True), cancer_with_gaps),
        "lightgbm around zero": Kind(light(), around_zero),
        "lightgbm of categories": Kind(light(min_data_per_group=5, cat_smooth=1), churn_categories),
        "lightgbm of numbers": Kind(
            lambda: lightgbm.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1), diabetes
        ),
        "xgboost": Kind(extreme(), wine),
        "xgboost with gaps": Kind(extreme(), cancer_with_gaps),
        "xgboost of categories": Kind(
            extreme(enable_categorical=True, max_cat_to_onehot=1), churn_categories
        ),
        "xgboost of numbers": Kind(
            lambda: xgboost.XGBRegressor(n_estimators=10, n_jobs=1, objective="count:poisson"),
            diabetes,
        ),
    }


def mixed_columns() -> dict[str, Kind]:
    from sklearn import ensemble, linear_model, preprocessing

    def logistic() -> Any:
        return linear_model.LogisticRegression(max_iter=500)

    def forest() -> Any:
        return ensemble.RandomForestClassifier(10, max_depth=8, random_state=0)

    def one_hot() -> Any:
        return preprocessing.OneHotEncoder(handle_unknown="ignore")

    def rare() -> Any:
        return preprocessing.OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=0.3, drop="first"
        )

    def ordinal() -> Any:
        return preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)

    return {
        "one-hot logistic": Kind(_columns(one_hot, logistic), churn),
        "one-hot forest": Kind(_columns(one_hot, forest), churn),
        "rare one-hot boosting": Kind(
            _columns(rare, lambda: ensemble.GradientBoostingClassifier(n_estimators=10)), churn
        ),
        "ordinal histogram": Kind(
            _columns(ordinal, lambda: ensemble.HistGradientBoostingClassifier(max_iter=5)), churn
        ),
        "target codes": Kind(_columns(preprocessing.TargetEncoder, logistic), churn),
        "histogram of categories": Kind(
            lambda: ensemble.HistGradientBoostingClassifier(
                max_iter=5, categorical_features="from_dtype"
            ),
            churn_categories,
            trust=True,
        ),
    }


def others() -> dict[str, Kind]:
    from sklearn.cluster import KMeans
    from sklearn.covariance import EllipticEnvelope
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    return {
        "isolation": Kind(lambda: IsolationForest(n_estimators=20, random_state=0), wine),
        "isolation of some": Kind(
            lambda: IsolationForest(
                n_estimators=20, contamination=0.1, max_features=0.5, random_state=0
            ),
            cancer,
        ),
        "one class": Kind(OneClassSVM, iris),
        "envelope": Kind(lambda: EllipticEnvelope(random_state=0), iris),
        "clusters": Kind(lambda: KMeans(3, n_init=1, random_state=0), iris),
        "local outliers": Kind(
            lambda: LocalOutlierFactor(novelty=True), iris, chosen=None, reason="is not proven"
        ),
    }


def every_kind() -> dict[str, Kind]:
    """Name -> kind."""
    return {**classifiers(), **regressors(), **boosters(), **mixed_columns(), **others()}
