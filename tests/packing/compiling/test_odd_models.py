"""Odd models answer as they do by themselves, next to every jump; or it is said why they stay."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn import (
    calibration,
    compose,
    ensemble,
    linear_model,
    multioutput,
    naive_bayes,
    preprocessing,
    svm,
    tree,
)
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from foretell.core.servable import Servable
from foretell.errors import InvalidInput
from foretell.packing import pack
from foretell.packing.compiling import compiled
from foretell.packing.compiling.prove import TOLERANCE
from foretell.packing.sample import batch_of
from tests import models
from tests.packing.compiling import kinds
from tests.packing.compiling.beside import beside_jumps


class Odd(NamedTuple):
    """An untrained model, its rows and targets; what the original is served for, if it is."""

    model: Any
    frame: Any
    y: Any
    reason: str = ""


@pytest.fixture(autouse=True)
def _quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_PER_SIZE_S", 0.004)


def small_tree(**options: Any) -> Any:
    return tree.DecisionTreeClassifier(max_depth=5, random_state=0, **options)


def told_by_gaps() -> tuple[pd.DataFrame, Any]:
    """Numbers of which only whether they are missing tells something; some rows are far out."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(400, 2)), columns=["a", "b"])
    missing = random.random(400) < 0.4
    frame.loc[missing, "a"] = np.nan
    frame.loc[:5, "a"] = 1e301
    return frame, np.where(random.random(400) < 0.05, ~missing, missing).astype(int)


def scaled(model: Any) -> Any:
    return make_pipeline(preprocessing.StandardScaler(), model)


def forest(**options: Any) -> Any:
    return ensemble.RandomForestClassifier(10, random_state=0, **options)


def boosting(**options: Any) -> Any:
    return ensemble.GradientBoostingClassifier(n_estimators=15, random_state=0, **options)


def of_columns(texts: Any, model: Any) -> Any:
    numbers = make_pipeline(SimpleImputer(), preprocessing.StandardScaler())
    parts = [("n", numbers, models.CHURN_NUMBERS), ("t", texts, models.CHURN_TEXTS)]
    return make_pipeline(compose.ColumnTransformer(parts, remainder="passthrough"), model)


def empty_texts() -> tuple[Any, Any]:
    frame, y = kinds.churn()
    frame = frame.copy()
    frame.loc[::5, "contract"] = ""
    frame.loc[1::7, "payment_method"] = "größer 日本 🙂"
    return frame, y


def integers(*dtypes: str) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            f"i{place}": random.integers(-100, np.iinfo(dtype).max, 300).astype(dtype)
            for place, dtype in enumerate(dtypes)
        }
    )
    return frame, (frame["i0"] % 3 == 0).astype(int)


IRIS, CANCER, WINE, DIABETES = kinds.iris(), kinds.cancer(), kinds.wine(), kinds.diabetes()
ALIKE = np.zeros(len(IRIS[1]), dtype=int)
ODD: dict[str, Callable[[], Odd]] = {
    "one class": lambda: Odd(small_tree(), IRIS[0], ALIKE),
    "one class of text": lambda: Odd(
        ensemble.ExtraTreesClassifier(5), IRIS[0], np.array(["größe"] * len(ALIKE))
    ),
    "one class of bins": lambda: Odd(
        ensemble.HistGradientBoostingClassifier(max_iter=3), IRIS[0], ALIKE
    ),
    "one class of neighbours": lambda: Odd(
        KNeighborsClassifier(), IRIS[0], ALIKE, "no exact graph of KNeighborsClassifier"
    ),
    "one column": lambda: Odd(scaled(small_tree()), CANCER[0][["mean_radius"]], CANCER[1]),
    "one column of targets": lambda: Odd(
        scaled(linear_model.Ridge()), DIABETES[0], DIABETES[1].to_frame()
    ),
    "constant columns": lambda: Odd(
        scaled(boosting()), CANCER[0].assign(one=1.0, zero=0.0), CANCER[1]
    ),
    "tiny numbers": lambda: Odd(scaled(small_tree()), CANCER[0] * 1e-30, CANCER[1]),
    "subnormal numbers": lambda: Odd(small_tree(), CANCER[0] * 1e-42, CANCER[1]),
    "huge numbers": lambda: Odd(scaled(small_tree()), CANCER[0] * 1e30, CANCER[1]),
    "numbers far from zero": lambda: Odd(scaled(forest()), CANCER[0] + 1e9, CANCER[1]),
    "int32": lambda: Odd(
        make_pipeline(preprocessing.PolynomialFeatures(2), linear_model.Ridge()),
        *integers("int32", "int16"),
    ),
    "int64": lambda: Odd(scaled(small_tree()), *integers("int64", "int8")),
    "uint8": lambda: Odd(forest(), *integers("uint8", "uint8")),
    "many classes": lambda: Odd(
        ensemble.HistGradientBoostingClassifier(max_iter=2, max_leaf_nodes=5),
        CANCER[0],
        np.arange(len(CANCER[1])) % 30,
    ),
    "unicode classes": lambda: Odd(boosting(), WINE[0], np.array(["día", "", "🙂"])[WINE[1]]),
    "large class numbers": lambda: Odd(
        small_tree(), WINE[0], np.array([2**40, -(2**60), 7])[WINE[1]]
    ),
    "booleans that may be missing": lambda: Odd(
        forest(), CANCER[0].assign(mean_radius=CANCER[0]["mean_radius"] > 14), CANCER[1]
    ),
    "empty and odd texts": lambda: Odd(
        of_columns(preprocessing.OneHotEncoder(handle_unknown="ignore"), boosting()), *empty_texts()
    ),
    "imputed texts": lambda: Odd(
        of_columns(
            make_pipeline(
                SimpleImputer(strategy="constant", fill_value="?"),
                preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            ),
            forest(),
        ),
        *kinds.churn(),
    ),
    "targets of several classes": lambda: Odd(
        of_columns(preprocessing.TargetEncoder(random_state=0), boosting()),
        kinds.churn()[0],
        np.arange(600) % 3,
        "its TargetEncoder has several classes",
    ),
    "passed through": lambda: Odd(
        Pipeline([("a", "passthrough"), ("b", None), ("c", boosting())]), *WINE
    ),
    "function": lambda: Odd(
        make_pipeline(preprocessing.FunctionTransformer(np.log1p), boosting()),
        *WINE,
        "its FunctionTransformer calls log1p",
    ),
    "bins": lambda: Odd(
        make_pipeline(
            preprocessing.KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf"),
            linear_model.LogisticRegression(),
        ),
        *WINE,
        "no exact graph of KBinsDiscretizer",
    ),
    "components": lambda: Odd(scaled(make_pipeline(PCA(3), linear_model.Ridge())), *DIABETES),
    "weighted votes": lambda: Odd(
        ensemble.VotingClassifier(
            [("a", small_tree()), ("b", forest())], voting="soft", weights=[1, 3]
        ),
        *WINE,
    ),
    "calibrated by steps": lambda: Odd(
        calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), method="isotonic", cv=2),
        *WINE,
        "its calibration is isotonic",
    ),
    "several boosters": lambda: Odd(
        multioutput.MultiOutputRegressor(ensemble.GradientBoostingRegressor(n_estimators=5)),
        *kinds.two_targets(),
    ),
    "ties of counts": lambda: Odd(
        naive_bayes.CategoricalNB(), (IRIS[0] * 2).astype(int), IRIS[1], "CategoricalNB"
    ),
    "monotone forest": lambda: Odd(
        ensemble.RandomForestRegressor(5, monotonic_cst=[1] + [0] * 9, random_state=0), *DIABETES
    ),
    "support vectors with chances": lambda: Odd(
        scaled(svm.NuSVC(probability=True, random_state=0)), *WINE, "its probabilities are libsvm"
    ),
    "lightgbm of linear leaves": lambda: Odd(
        lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, linear_tree=True, verbose=-1),
        *DIABETES,
        "its leaves hold linear models",
    ),
    "lightgbm of tiny numbers": lambda: Odd(
        lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1), CANCER[0] * 1e-36, CANCER[1]
    ),
    "lightgbm of what is missing": lambda: Odd(
        lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1), *told_by_gaps()
    ),
    "xgboost of dropped trees": lambda: Odd(
        xgboost.XGBClassifier(n_estimators=5, n_jobs=1, booster="dart"),
        *CANCER,
        "it is a dart booster",
    ),
    "xgboost from a start": lambda: Odd(
        xgboost.XGBRegressor(n_estimators=5, n_jobs=1, base_score=100.0), *DIABETES
    ),
    "xgboost of huge numbers": lambda: Odd(
        xgboost.XGBClassifier(n_estimators=5, n_jobs=1), CANCER[0] * 1e30, CANCER[1]
    ),
    "xgboost of several quantiles": lambda: Odd(
        xgboost.XGBRegressor(
            n_estimators=5, n_jobs=1, objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]
        ),
        *DIABETES,
        "it predicts several targets",
    ),
}
QUICK = (
    "lightgbm of what is missing",
    "one class",
    "one column of targets",
    "booleans that may be missing",
    "empty and odd texts",
    "lightgbm of linear leaves",
)
ROUNDED = ("one column of targets", "components", "int32")
"""Sums of products, smooth in every column: their answers jump nowhere."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in ODD],
)
def test_an_odd_model_answers_as_it_does_by_itself(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = ODD[name]()
        model = models.trained(odd.model, odd.frame, odd.y)
        odd.frame.to_parquet(tmp_path / "sample.parquet")
        folder = pack(
            [models.saved(model, tmp_path / "m.pkl")],
            sample=tmp_path / "sample.parquet",
            repository=tmp_path / "models",
        )
        report = models.manifest_of(folder).compile_report
        assert report is not None
        if odd.reason and report["chosen"] is None:
            assert odd.reason in report["reason"]
        elif odd.reason:  # not by its own arithmetic, yet a converted graph is proven
            assert odd.reason in report["candidates"][0]["error"]
        else:
            assert report["chosen"] == "mixed", report
        servable = models.opened(folder)
        rows = [odd.frame, moved(odd.frame)]
        if name not in ROUNDED and (odd.frame.dtypes == np.float64).any():
            rows.append(beside_jumps(model, odd.frame, 40, seed=1))
        for asked in rows:
            assert_same(servable, model, asked)
        assert_infinity_is_refused(servable, odd.frame)


def moved(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the frame with every column as in another row, so that none is a known one."""
    random = np.random.default_rng(9)
    return pd.DataFrame(
        {name: frame[name].iloc[random.integers(0, len(frame), 200)].array for name in frame}
    )


def assert_same(servable: Servable, model: Any, asked: pd.DataFrame) -> None:
    if asked.empty:
        return
    answers = models.answered(servable, asked)
    assert answers["prediction"].shape == np.shape(model.predict(asked))
    assert_near(answers["prediction"], model.predict(asked))
    if hasattr(model, "predict_proba"):
        assert_near(answers["probability"], model.predict_proba(asked))
    for place in range(0, len(asked), 17):
        alone = models.answered(servable, asked.iloc[[place]])
        assert_near(alone["prediction"], answers["prediction"][place : place + 1])


def assert_near(answer: Any, wanted: Any) -> None:
    expected = np.asarray(wanted)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        assert answer.tolist() == expected.tolist()


def assert_infinity_is_refused(servable: Servable, frame: pd.DataFrame) -> None:
    signature = servable.signature
    row = list(batch_of(frame.head(1), signature.inputs).rows[0])
    places = [place for place, field in enumerate(signature.inputs) if field.datatype.is_float]
    for place in places[:2]:
        for edge in (float("inf"), float("-inf")):
            with pytest.raises(InvalidInput):
                signature.accept_row((*row[:place], edge, *row[place + 1 :]))
