import io
import json
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

from foretell.app.reports import show_package
from foretell.engine.repository import Package
from foretell.errors import MissingExtra
from foretell.packing import pack
from foretell.packing.compiling import compiled, packaged
from tests import models, servers
from tests.packing.compiling import kinds

pytestmark = pytest.mark.slow  # trains and packs many models

KINDS = kinds.every_kind()
ABSENT = [
    "sklearn",
    "scipy",
    "joblib",
    "pandas",
    "lightgbm",
    "xgboost",
    "onnx",
    "skl2onnx",
    "numba",
    "llvmlite",
]
BLOCKER = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
PROGRAM = """
import json, pickle, sys

def refuse(*given, **named):
    raise RuntimeError("a pickle was read")

pickle.load = pickle.loads = pickle.Unpickler = refuse
import foretell
model = foretell.load(sys.argv[1])
answers = model.predict(json.loads(sys.stdin.read()))
print(json.dumps({name: column.tolist() for name, column in answers.items()}))
for name in ("sklearn", "pandas", "onnx"):
    assert name not in sys.modules
"""


@pytest.fixture
def churn_package(tmp_path: Path) -> Path:
    frame, y = KINDS["one-hot forest"].data()
    model = models.trained(KINDS["one-hot forest"].make(), frame, y)
    return pack(
        [models.saved(model, tmp_path / "churn.pkl")],
        sample=models.sampled(frame, tmp_path / "sample.csv"),
        repository=tmp_path / "models",
    )


def test_a_compiled_package_has_one_step_and_keeps_the_original_for_audit(
    churn_package: Path,
) -> None:
    manifest = models.manifest_of(churn_package)
    assert [(step.runtime, step.files) for step in manifest.steps] == [("onnx", ("model.onnx",))]
    of_bulk = set(manifest.bulk.files if manifest.bulk else ())  # where it was faster
    listed = {artifact.path for artifact in manifest.files}
    assert listed - of_bulk == {"churn.pkl", "model.onnx"}
    assert set(manifest.libraries) == {"python", "foretell", "numpy", "onnxruntime"}
    report = manifest.compile_report
    assert report is not None
    assert report["original"]["steps"][0]["runtime"] == "sklearn"
    assert "scikit-learn" in report["original"]["libraries"]
    assert [part["name"] for part in report["candidates"]] == [
        "mixed",
        "converted float64",
        "converted float32",
    ]
    assert all(part["error"] or part["lost"] for part in report["candidates"][1:])


def test_a_compiled_package_answers_where_scikit_learn_is_not_installed(
    churn_package: Path, tmp_path: Path
) -> None:
    frame, _ = KINDS["one-hot forest"].data()
    rows = json.loads(frame.head(20).to_json(orient="records"))
    wanted = models.answered(models.opened(churn_package), frame.head(20))
    done = run(
        [sys.executable, "-c", BLOCKER + PROGRAM, str(churn_package)],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["prediction"] == wanted["prediction"].tolist()
    np.testing.assert_array_equal(answers["probability"], wanted["probability"])


@pytest.mark.slow
def test_a_server_without_scikit_learn_serves_a_compiled_package(
    churn_package: Path, tmp_path: Path
) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCKER)
    frame, _ = KINDS["one-hot forest"].data()
    row = json.loads(frame.head(1).to_json(orient="records"))[0]
    server = servers.start(churn_package, PYTHONPATH=str(tmp_path / "blocked"))
    try:
        server.wait()
        answer = httpx.post(f"{server.url}/predict", json=row)
    finally:
        server.stop()
    assert answer.status_code == 200, answer.text


def test_inspect_shows_every_candidate_and_what_it_lost_by(tmp_path: Path) -> None:
    frame, y = kinds.cancer()
    model = models.trained(KINDS["scaled tree"].make(), frame, y)
    files = [models.saved(model, tmp_path / "tree.pkl")]
    sample = models.sampled(frame, tmp_path / "sample.csv")
    folder = pack(files, sample=sample, repository=tmp_path / "models")
    stream = io.StringIO()
    package = Package(folder, models.manifest_of(folder))
    show_package(Console(file=stream, color_system=None, width=1000), package)
    shown = stream.getvalue()
    assert "compiled: mixed, proven within 1e-06" in shown
    lines = {line.split(":")[0].strip(): line for line in shown.splitlines()}
    assert "max error 0.0e+00 on" in lines["mixed"]
    assert "as fast at 1, 32, 1000 rows" in lines["mixed"]
    assert "lost" not in lines["mixed"]
    assert "lost: " in lines["converted float64"]
    assert "max error" in lines["converted float32"]
    assert "lost: not proven" in lines["converted float32"]
    assert "thresholds points get another prediction" in lines["converted float32"]


def test_pack_without_compiling_serves_the_original(tmp_path: Path) -> None:
    frame, y = kinds.iris()
    model = models.trained(KINDS["tree"].make(), frame, y)
    folder = pack([models.saved(model, tmp_path / "m.pkl")], repository=tmp_path, compile=False)
    manifest = models.manifest_of(folder)
    assert manifest.steps[0].runtime == "sklearn"
    assert manifest.compile_report is None


def test_a_model_packed_without_a_sample_is_compiled(tmp_path: Path) -> None:
    frame, y = kinds.iris()
    model = models.trained(KINDS["forest"].make(), frame, y)
    folder = pack([models.saved(model, tmp_path / "m.pkl")], repository=tmp_path)
    manifest = models.manifest_of(folder)
    assert manifest.compile_report is not None
    assert manifest.compile_report["chosen"] == "mixed"
    assert manifest.compile_report["points"]["thresholds"] > 100
    answers = models.answered(models.opened(folder), frame)
    assert answers["prediction"].tolist() == model.predict(frame).tolist()


def test_what_runs_code_is_served_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(
        "from foretell import Field, Signature\n\n"
        "class Model:\n"
        "    signature = Signature((Field('x', 'FP64'),), (Field('prediction', 'FP64'),))\n"
        "    def predict(self, columns):\n"
        "        return {'prediction': columns['x'] * 2}\n"
    )
    folder = pack(["twice:Model"], repository=tmp_path / "r", python_path=tmp_path)
    report = models.manifest_of(folder).compile_report
    assert report is not None
    assert report["reason"] == "it runs code of its own, or is a graph already"


def test_without_onnx_the_original_is_served_and_the_report_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*given: object) -> None:
        raise MissingExtra("install foretell[compile] to compile models: onnx is missing")

    monkeypatch.setattr(packaged, "compile_chain", absent)
    frame, y = kinds.iris()
    model = models.trained(KINDS["tree"].make(), frame, y)
    folder = pack([models.saved(model, tmp_path / "m.pkl")], repository=tmp_path)
    manifest = models.manifest_of(folder)
    assert manifest.steps[0].runtime == "sklearn"
    assert manifest.compile_report is not None
    assert manifest.compile_report["reason"].startswith("install foretell[compile]")


def test_a_file_called_model_onnx_is_not_overwritten(tmp_path: Path) -> None:
    frame, y = kinds.iris()
    model = models.trained(KINDS["tree"].make(), frame, y)
    path = models.saved(model, tmp_path / "model.onnx.pkl").rename(tmp_path / "other.pkl")
    assert compiled.MODEL == "model.onnx"
    folder = pack([path], repository=tmp_path / "r")
    assert (folder / "other.pkl").read_bytes() == path.read_bytes()
    assert models.manifest_of(folder).steps[0].files == ("model.onnx",)


def saved_chain(name: str, folder: Path) -> tuple[list[Path], Any]:
    """The files of a scaler and a model, and what answers as they do."""
    import lightgbm
    import xgboost
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame, y = kinds.wine()
    scaler = StandardScaler().fit(frame.to_numpy())
    scaled = scaler.transform(frame.to_numpy())
    match name:
        case "boosting.pkl":
            model: Any = GradientBoostingClassifier(n_estimators=5).fit(scaled, y)
            models.saved(model, folder / name)
        case "xgboost.json":
            model = xgboost.XGBClassifier(n_estimators=5).fit(scaled, y)
            model.save_model(folder / name)
        case _:
            model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(scaled, y)
            model.booster_.save_model(folder / name)
    files = [models.saved(scaler, folder / "scaler.pkl"), folder / name]
    return files, make_pipeline(scaler, model)


@pytest.mark.parametrize("name", ["boosting.pkl", "xgboost.json", "lightgbm.txt"])
def test_a_chain_of_files_is_one_graph(name: str, tmp_path: Path) -> None:
    frame, _ = kinds.wine()
    files, original = saved_chain(name, tmp_path)
    sample = models.sampled(frame, tmp_path / "sample.csv")
    folder = pack(files, sample=sample, repository=tmp_path / "models")
    manifest = models.manifest_of(folder)
    report = manifest.compile_report
    assert report is not None
    assert report["chosen"] == "mixed", report
    assert report["points"]["thresholds"] > 100
    answers = models.answered(models.opened(folder), frame)
    assert answers["prediction"].tolist() == original.predict(frame.to_numpy()).tolist()
    wanted = original.predict_proba(frame.to_numpy())
    np.testing.assert_allclose(answers["probability"], wanted, atol=1e-6)


def test_a_row_alone_is_answered_as_among_many(churn_package: Path) -> None:
    frame, _ = KINDS["one-hot forest"].data()
    servable = models.opened(churn_package)
    among_many = models.answered(servable, frame.head(100))  # taken column by column
    for place in (0, 17, 23, 99):  # with gaps in numbers and texts
        alone = models.answered(servable, frame.iloc[[place]])
        assert alone["prediction"][0] == among_many["prediction"][place]
        np.testing.assert_array_equal(alone["probability"][0], among_many["probability"][place])
