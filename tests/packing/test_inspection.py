"""An inspection tells what a file is, and runs nothing that is refused."""

import json
import os
import pickle
from pathlib import Path

import joblib
import pytest

from foretell.errors import BadPackage
from foretell.packing import inspect_file
from tests import models


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


def test_a_model_tells_its_class_names_and_classes(tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = models.trained(models.classifiers()["forest"](), frame, y)
    joblib.dump(model, tmp_path / "model.joblib", compress=3)
    told = inspect_file(tmp_path / "model.joblib").describe()
    assert json.loads(json.dumps(told)) == {
        **told,
        "feature_names": list(frame.columns),
        "class_labels": [0, 1, 2],
    }
    assert told["model"] == "sklearn.ensemble._forest.RandomForestClassifier"
    assert told["compression"] == "zlib"
    assert told["safe"]
    assert told["problem"] is None
    assert "scikit-learn" in told["libraries"]


def test_a_bomb_is_named_and_does_not_go_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    told = inspect_file(path).describe()
    assert told["refused"] == ["posix.mkdir"]
    assert not told["safe"]
    assert told["model"] is None
    assert not (tmp_path / "ran").exists()


def test_a_scaler_s_problem_is_told(tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    frame, _ = models.numbers()
    path = models.saved(StandardScaler().fit(frame), tmp_path / "scaler.pkl")
    told = inspect_file(path)
    assert told.problem is not None
    assert "can transform but not predict" in told.problem
    assert told.n_features == 4


def test_native_files_tell_their_features(tmp_path: Path) -> None:
    import lightgbm
    import xgboost

    frame, y = models.numbers()
    xgb = models.trained(xgboost.XGBClassifier(n_estimators=2), frame, y)
    xgb.save_model(tmp_path / "model.ubj")
    lgb = models.trained(lightgbm.LGBMRegressor(n_estimators=2, verbose=-1), frame, y)
    lgb.booster_.save_model(tmp_path / "model.txt")
    for name, form in (("model.ubj", "xgboost ubj"), ("model.txt", "lightgbm txt")):
        told = inspect_file(tmp_path / name)
        assert told.format == form
        assert told.feature_names == tuple(frame.columns)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="there is no file"):
        inspect_file(tmp_path / "absent.pkl")
