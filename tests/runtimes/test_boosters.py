"""XGBoost's and LightGBM's own files answer as their scikit-learn wrappers do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from foretell.core.datatype import Datatype
from foretell.errors import BadPackage, InvalidInput
from foretell.packing import pack
from tests import models

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1}
QUIET: dict[str, Any] = {**SMALL, "verbose": -1}


def binary() -> tuple[pd.DataFrame, Any]:
    frame, y = models.numbers()
    return frame, (y == 1).astype(int)


def categorical() -> tuple[pd.DataFrame, Any]:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": random.normal(size=300),
            "colour": pd.Categorical(random.choice(["red", "green", "blue"], 300)),
            "grade": pd.Categorical(random.choice([3, 5, 9], 300)),
        }
    )
    frame.loc[::11, "size"] = np.nan
    return frame, ((frame["colour"] == "red") ^ (frame["size"] > 0)).to_numpy().astype(int)


WRAPPERS: dict[str, tuple[Callable[[], Any], Callable[[], tuple[pd.DataFrame, Any]]]] = {
    "xgb binary": (lambda: xgboost.XGBClassifier(**SMALL), binary),
    "xgb classes": (lambda: xgboost.XGBClassifier(**SMALL), models.numbers),
    "xgb number": (lambda: xgboost.XGBRegressor(**SMALL), models.numbers),
    "xgb poisson": (
        lambda: xgboost.XGBRegressor(objective="count:poisson", **SMALL),
        models.numbers,
    ),
    "xgb linear": (
        lambda: xgboost.XGBRegressor(booster="gblinear", n_estimators=4),
        models.numbers,
    ),
    "lgb binary": (lambda: lightgbm.LGBMClassifier(**QUIET), binary),
    "lgb classes": (lambda: lightgbm.LGBMClassifier(**QUIET), models.numbers),
    "lgb number": (lambda: lightgbm.LGBMRegressor(**QUIET), models.numbers),
}


def save_native(model: Any, path: Path, suffix: str) -> Path:
    if isinstance(model, xgboost.XGBModel):
        path = path.with_suffix(suffix)
        model.save_model(path)
    else:
        path = path.with_suffix(".txt")
        model.booster_.save_model(path)
    return path


@pytest.mark.parametrize("kind", list(WRAPPERS))
@pytest.mark.parametrize("saved", ["pickle", ".json", ".ubj"])
def test_a_booster_answers_as_its_wrapper(kind: str, saved: str, tmp_path: Path) -> None:
    make, data = WRAPPERS[kind]
    frame, y = data()
    model = models.trained(make(), frame, y)
    if saved == "pickle":
        path = models.saved(model, tmp_path / "model.pkl")
    else:
        path = save_native(model, tmp_path / "model", saved)
    folder = models.packed(tmp_path, [path], frame)
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["prediction"], model.predict(frame))
    signature = models.manifest_of(folder).signature
    assert signature.input_names == tuple(frame.columns)
    if hasattr(model, "predict_proba"):
        models.assert_same(answers["probability"], model.predict_proba(frame))
        assert signature.class_labels == tuple(range(len(np.unique(y))))
    else:
        assert signature.class_labels is None
        assert signature.outputs[0].datatype.is_float
    if kind != "xgb linear":
        assert all(field.nullable for field in signature.inputs)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("sampled", ["csv", "parquet", None])
def test_categories_keep_their_codes(
    library: str, native: bool, sampled: str | None, tmp_path: Path
) -> None:
    frame, y = categorical()
    model = (
        xgboost.XGBClassifier(enable_categorical=True, **SMALL)
        if library == "xgboost"
        else lightgbm.LGBMClassifier(min_child_samples=5, **QUIET)
    )
    model = models.trained(model, frame, y)
    path = tmp_path / "model"
    path = save_native(model, path, ".ubj") if native else models.saved(model, path)
    sample = None
    if sampled is not None:
        sample = tmp_path / f"s.{sampled}"
        frame.to_csv(sample, index=False) if sampled == "csv" else frame.to_parquet(sample)
    folder = pack([path], name="m", sample=sample, repository=tmp_path / "r")
    signature = models.manifest_of(folder).signature
    fields = {field.name: field for field in signature.inputs}
    assert fields["colour"].categories == ("blue", "green", "red")
    assert fields["colour"].datatype is Datatype.BYTES
    assert fields["grade"].categories == (3, 5, 9)
    turned = frame.assign(colour=frame["colour"].astype(object), grade=frame["grade"].astype(int))
    answers = models.answered(models.opened(folder), turned.iloc[::-1])
    expected = model.predict_proba(frame.iloc[::-1])
    models.assert_same(answers["probability"], expected)


def test_a_wrapper_stopped_early_answers_with_its_best_trees(tmp_path: Path) -> None:
    frame, y = binary()
    model = xgboost.XGBClassifier(early_stopping_rounds=2, learning_rate=5.0, n_estimators=30)
    model.fit(frame, y, eval_set=[(frame.iloc[::2], 1 - y[::2])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    path = save_native(model, tmp_path / "model", ".json")
    answers = models.answered(models.opened(models.packed(tmp_path, [path])), frame)
    models.assert_same(answers["probability"], model.predict_proba(frame))


def test_a_scaler_in_front_of_a_native_booster_answers_as_both(tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    frame, y = models.numbers()
    scaler = StandardScaler().fit(frame)
    files = [models.saved(scaler, tmp_path / "scaler.pkl")]
    xgb = models.trained(xgboost.XGBClassifier(**SMALL), scaler.transform(frame), y)
    lgb = models.trained(lightgbm.LGBMClassifier(**QUIET), scaler.transform(frame), y)
    for name, model in (("xgb", xgb), ("lgb", lgb)):
        path = save_native(model, tmp_path / name, ".json")
        folder = models.packed(tmp_path, [*files, path])
        answers = models.answered(models.opened(folder), frame)
        models.assert_same(answers["probability"], model.predict_proba(scaler.transform(frame)))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused_and_ends_no_process(
    library: str, share: float, tmp_path: Path
) -> None:
    frame, y = binary()
    make = WRAPPERS["xgb binary" if library == "xgboost" else "lgb binary"][0]
    path = save_native(models.trained(make(), frame, y), tmp_path / "model", ".ubj")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(BadPackage, match=f"{path.name} is not a readable"):
        models.packed(tmp_path, [path])


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("suffix", ["csv", "parquet", None])
@pytest.mark.parametrize("city", ["Ōsaka", "Zürich"])
def test_categories_that_xgboost_keeps_cut_are_refused(
    city: str, suffix: str | None, native: bool, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"city": pd.Categorical(["Paris", "Rome", city] * 60)})
    model = xgboost.XGBClassifier(enable_categorical=True, **SMALL).fit(frame, [0, 0, 1] * 60)
    path = tmp_path / "model"
    path = save_native(model, path, ".json") if native else models.saved(model, path)
    sample = None
    if suffix is not None:
        sample = tmp_path / f"s.{suffix}"
        frame.to_csv(sample, index=False) if suffix == "csv" else frame.to_parquet(sample)
    with pytest.raises(BadPackage, match=r"categories of column 'city' in .* not ASCII"):
        pack([path], name="m", sample=sample, repository=tmp_path / "r")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_lightgbm_keeps_categories_beyond_ascii(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"city": pd.Categorical(["Zürich", "Paris", "Ōsaka"] * 60)})
    model = models.trained(lightgbm.LGBMClassifier(**QUIET), frame, [0, 0, 1] * 60)
    path = save_native(model, tmp_path / "model", ".txt")
    sample = tmp_path / f"s.{suffix}"
    frame.to_csv(sample, index=False) if suffix == "csv" else frame.to_parquet(sample)
    folder = pack([path], name="m", sample=sample, repository=tmp_path / "r", compile=False)
    (city,) = models.manifest_of(folder).signature.inputs
    assert city.categories == ("Paris", "Zürich", "Ōsaka")
    answers = models.answered(models.opened(folder), frame.astype(object))
    models.assert_same(answers["probability"], model.predict_proba(frame))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_sample_value_that_is_no_known_category_is_named(
    library: str, suffix: str, tmp_path: Path
) -> None:
    frame, y = categorical()
    model = (
        xgboost.XGBClassifier(enable_categorical=True, **SMALL)
        if library == "xgboost"
        else lightgbm.LGBMClassifier(min_child_samples=5, **QUIET)
    )
    path = models.saved(models.trained(model, frame, y), tmp_path / "model.pkl")
    turned = frame.assign(colour=["mauve", *frame["colour"][1:]])
    sample = tmp_path / f"s.{suffix}"
    turned.to_csv(sample, index=False) if suffix == "csv" else turned.to_parquet(sample)
    with pytest.raises(BadPackage, match=r"column 'colour' of the sample has \"mauve\".*'blue'"):
        pack([path], name="m", sample=sample, repository=tmp_path / "r")


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("sampled", [True, False])
def test_native_categories_are_closed_and_may_be_missing(
    library: str, sampled: bool, tmp_path: Path
) -> None:
    frame, y = categorical()
    frame.loc[::7, "grade"] = np.nan
    model = (
        xgboost.XGBClassifier(enable_categorical=True, **SMALL)
        if library == "xgboost"
        else lightgbm.LGBMClassifier(min_child_samples=5, **QUIET)
    )
    model = models.trained(model, frame, y)
    path = models.saved(model, tmp_path / "model.pkl")
    folder = models.packed(tmp_path, [path], frame if sampled else None)
    servable = models.opened(folder)
    fields = {field.name: field for field in servable.signature.inputs}
    assert all(fields[name].closed and fields[name].nullable for name in ("colour", "grade"))
    with pytest.raises(InvalidInput, match="must be one of"):
        fields["colour"].accept("mauve")
    with pytest.raises(InvalidInput, match="must be one of"):
        fields["grade"].accept(4)
    turned = frame.assign(colour=frame["colour"].astype(object), grade=frame["grade"].astype(float))
    answers = models.answered(servable, turned)
    models.assert_same(answers["probability"], model.predict_proba(frame))
