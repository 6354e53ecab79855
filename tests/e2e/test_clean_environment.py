"""Compiled packages are served where nothing but Foretell's own dependencies is installed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell.packing import pack
from tests import models
from tests.servers import Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ABSENT = [
    "sklearn",
    "scipy",
    "pandas",
    "joblib",
    "skops",
    "onnx",
    "skl2onnx",
    "lightgbm",
    "xgboost",
    "pyarrow",
]
TELL = f"""
from importlib.util import find_spec
import foretell, onnxruntime
print(foretell.__file__)
print([name for name in {ABSENT!r} if find_spec(name)])
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment into which `pip install .` put Foretell, no extras."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    run(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", ROOT, cwd=folder)
    return folder / "venv" / "bin"


def outside() -> dict[str, str]:
    """This process's environment without what leads to this checkout; pip's settings stay."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in ours}


def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed; it must end well."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=outside(),
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def serving(clean: Path, repository: Path) -> Iterator[Server]:
    """`foretell serve` of that environment, on a free port; ended whatever happens."""
    command = [clean / "foretell", "serve", repository, "--bind", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*map(str, command), "--default-model", "churn"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=repository,
        env={**outside(), "PYTHONUNBUFFERED": "1"},
    )
    server = Server(process)
    try:
        server.wait()
        yield server
    finally:
        code = server.stop()
    assert code == 0, server.log


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A repository of two compiled models: name -> the trained model; and the folder."""
    folder = tmp_path_factory.mktemp("packages")
    frame, y = models.churn()
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(), StandardScaler()), models.CHURN_NUMBERS),
            ("t", OneHotEncoder(handle_unknown="ignore"), models.CHURN_TEXTS),
        ]
    )
    flowers, kinds = models.numbers()
    made = {
        "churn": (make_pipeline(columns, GradientBoostingClassifier(n_estimators=30)), frame, y),
        "flowers": (RandomForestClassifier(30, random_state=0), flowers, kinds),
    }
    for name, (model, rows, wanted) in made.items():
        models.trained(model, rows, wanted)
        package = pack(
            [models.saved(model, folder / f"{name}.pkl")],
            name=name,
            sample=models.sampled(rows, folder / f"{name}.csv"),
            repository=folder / "models",
        )
        assert models.manifest_of(package).steps[0].runtime == "onnx"
    return {**{name: part[:2] for name, part in made.items()}, "folder": folder / "models"}


def test_compiled_packages_are_served_where_scikit_learn_is_not_installed(
    clean: Path, packages: dict[str, Any]
) -> None:
    where, found = run(clean / "python", "-c", TELL, cwd=clean).split("\n", 1)
    assert Path(where).is_relative_to(clean.parent)  # not this checkout
    assert found.strip() == "[]"
    (churn, customers), (forest, flowers) = packages["churn"], packages["flowers"]
    with serving(clean, packages["folder"]) as server, httpx.Client(timeout=30) as client:
        rows = customers.head(40)  # some with gaps in numbers and texts
        for place, row in enumerate(json.loads(rows.to_json(orient="records"))):
            answer = client.post(f"{server.url}/predict", json=row)
            assert answer.status_code == 200, answer.text
            assert_same(answer.json(), churn, rows.iloc[[place]])
        body = {"instances": flowers.to_dict(orient="records")}
        answer = client.post(f"{server.url}/models/flowers/batch_predict", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == forest.predict(flowers).tolist()
        chances = answer.json()["probabilities"]
        np.testing.assert_allclose(chances, forest.predict_proba(flowers), rtol=0, atol=1e-6)


def assert_same(answer: dict[str, Any], model: Any, row: Any) -> None:
    """One row's answer is the trained model's own."""
    assert answer["prediction"] == model.predict(row)[0]
    wanted = model.predict_proba(row)[0]
    np.testing.assert_allclose(answer["probability"], wanted, rtol=0, atol=1e-6)
