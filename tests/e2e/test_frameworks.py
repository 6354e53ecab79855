"""Every framework's model, packed and served over HTTP, gives the framework's own answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import onnxruntime
import pytest
import xgboost
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

from foretell.packing import pack
from tests.servers import Server, running

pytestmark = pytest.mark.slow

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X.columns = X.columns.str.replace(" ", "_")  # LightGBM's own file does the same
ROWS = X.iloc[::7]

RULE = """
import numpy as np

class Rule:
    def load(self, folder):
        self.limit = float((folder / "limit.txt").read_text())

    def predict(self, columns):
        return np.where(columns["mean_radius"] > self.limit, "large", "small")
"""

Expected = dict[str, tuple[Any, Any]]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """Train and pack one model of each framework; their own labels and probabilities."""
    folder = tmp_path_factory.mktemp("frameworks")
    X.to_csv(folder / "sample.csv", index=False)
    boosted = xgboost.XGBClassifier(n_estimators=20, n_jobs=1).fit(X, y)
    boosted.save_model(folder / "xgboost.json")
    light = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1).fit(X, y)
    light.booster_.save_model(folder / "lightgbm.txt")
    forest = RandomForestClassifier(20, random_state=0).fit(X.to_numpy(np.float32), y)
    graph = to_onnx(forest, X.head(1).to_numpy(np.float32), options={"zipmap": False})
    (folder / "onnx.onnx").write_bytes(graph.SerializeToString())
    (folder / "rule.py").write_text(RULE)
    (folder / "limit.txt").write_text("14.5")
    for files, name in (
        (["xgboost.json"], "xgboost"),
        (["lightgbm.txt"], "lightgbm"),
        (["onnx.onnx"], "onnx"),
        (["rule:Rule", "limit.txt"], "rule"),
    ):
        paths = [file if ":" in file else folder / file for file in files]
        made = folder / "models"
        pack(paths, name=name, sample=folder / "sample.csv", repository=made, python_path=folder)
    session = onnxruntime.InferenceSession(folder / "onnx.onnx")
    label, probability = session.run(None, {"X": ROWS.to_numpy(np.float32)})
    return {
        "xgboost": (boosted.predict(ROWS), boosted.predict_proba(ROWS)),
        "lightgbm": (light.predict(ROWS), light.predict_proba(ROWS)),
        "onnx": (label, probability),
        "rule": (np.where(ROWS["mean_radius"] > 14.5, "large", "small"), None),
        "folder": (made, None),
    }


@pytest.fixture(scope="module")
def server(expected: Expected) -> Iterator[Server]:
    made: Path = expected["folder"][0]
    with running(made) as server:
        yield server


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "onnx", "rule"])
def test_the_answers_are_the_frameworks_own(server: Server, expected: Expected, name: str) -> None:
    body = {"instances": ROWS.to_dict(orient="records")}
    reply = httpx.post(f"{server.url}/models/{name}/batch_predict", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    told, (labels, probabilities) = reply.json(), expected[name]
    assert told["predictions"] == labels.tolist()
    if probabilities is None:
        assert "probabilities" not in told
    else:
        np.testing.assert_allclose(told["probabilities"], probabilities, rtol=0, atol=1e-6)
