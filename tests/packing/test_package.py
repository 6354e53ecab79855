"""A package is whole, digested, immutable, and never half there."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.core.manifest import Manifest
from foretell.errors import BadPackage, InvalidInput, MissingExtra
from foretell.packing import pack
from foretell.runtimes import load
from tests import models


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    frame, y = models.numbers()
    model = models.trained(models.classifiers()["pipeline"](), frame, y)
    return models.saved(model, tmp_path / "churn.v2.pkl")


def test_a_package_is_a_folder_of_name_and_version_with_digests(
    model_file: Path, tmp_path: Path
) -> None:
    folder = pack(
        [model_file],
        repository=tmp_path / "r",
        version="1.2.0",
        metadata={"owner": "me"},
        compile=False,
    )
    assert folder == tmp_path / "r" / "churn" / "1.2.0"
    assert sorted(path.name for path in folder.iterdir()) == ["churn.v2.pkl", "model.json"]
    manifest = models.manifest_of(folder)
    (artifact,) = manifest.files
    raw = model_file.read_bytes()
    assert (artifact.path, artifact.size) == ("churn.v2.pkl", len(raw))
    assert artifact.sha256 == hashlib.sha256(raw).hexdigest()
    assert (folder / artifact.path).read_bytes() == raw
    assert manifest.metadata == {"owner": "me"}
    assert not manifest.trusted
    assert {"python", "foretell", "numpy", "scikit-learn", "joblib"} <= set(manifest.libraries)


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    frame, y = models.numbers()
    scaler = StandardScaler().fit(frame)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    files = [
        models.saved(scaler, tmp_path / "one" / "part.pkl"),
        models.saved(
            LogisticRegression().fit(scaler.transform(frame), y), tmp_path / "two" / "part.pkl"
        ),
    ]
    steps = models.manifest_of(models.packed(tmp_path, files)).steps
    assert len({step.files for step in steps}) == 2


def test_an_existing_version_is_refused_and_untouched(model_file: Path, tmp_path: Path) -> None:
    folder = pack([model_file], repository=tmp_path / "r")
    before = (folder / "model.json").read_bytes()
    with pytest.raises(BadPackage, match="already exists; choose another --version"):
        pack([model_file], repository=tmp_path / "r")
    assert (folder / "model.json").read_bytes() == before
    pack([model_file], repository=tmp_path / "r", version="1.0.1")


@pytest.mark.parametrize("name", ["../out", "a b", ".hidden", ""])
def test_an_unusable_name_is_refused(name: str, model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="not usable"):
        pack([model_file], name=name, repository=tmp_path / "r")


def test_a_refused_pack_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(b"not a model")
    with pytest.raises(BadPackage):
        pack([bad], repository=tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []


def test_a_pack_killed_half_way_leaves_no_visible_package(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "class Model:\n"
        "    def predict(self, columns):\n"
        f"        pathlib.Path({str(ready)!r}).touch()\n"
        "        time.sleep(60)\n"
    )
    (tmp_path / "s.csv").write_text("a\n1.0\n")
    script = (
        "from foretell.packing import pack; from pathlib import Path; "
        "pack(['slow:Model'], sample='s.csv', repository='r', python_path=Path.cwd())"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        (aside,) = (tmp_path / "r").iterdir()
        assert aside.name.startswith(".")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path for path in (tmp_path / "r").iterdir() if path.name[0] != "."] == []


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("model.pkl", b"", "is empty"),
        ("model.pkl", b"\x80\x04garbage", "not a readable pickle"),
        ("model.joblib", random.Random(1).randbytes(200), "not a readable pickle"),
        ("model.skops", b"no zip", "not a skops file"),
        ("model.skops", b"PK\x03\x04broken", "damaged archive"),
        ("model.onnx", b"\x08\x09broken", "not a readable ONNX model"),
        ("model.json", b'{"learner": 5}', "not a readable XGBoost model"),
        ("model.ubj", b"{L broken", "not a readable XGBoost model"),
        ("model.txt", b"tree\nversion=v4\n", "not a readable LightGBM model"),
        ("model.txt", b"hello", "not a LightGBM model"),
    ],
)
def test_files_that_are_no_model_are_refused_by_name(
    name: str, raw: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(BadPackage, match=said) as caught:
        models.packed(tmp_path, [path])
    assert name in caught.value.message
    assert len(caught.value.message.splitlines()) == 1


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="there is no file"):
        models.packed(tmp_path, [tmp_path / "absent.pkl"])
    with pytest.raises(BadPackage, match="is a folder"):
        models.packed(tmp_path, [tmp_path])
    with pytest.raises(BadPackage, match="at least one"):
        models.packed(tmp_path, [])


def objects() -> dict[str, tuple[Any, str]]:
    from sklearn.cluster import DBSCAN
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.preprocessing import StandardScaler

    frame, _ = models.numbers()
    return {
        "a scaler": (
            StandardScaler().fit(frame),
            r"can transform but not predict; .*foretell pack model\.pkl",
        ),
        "clusters": (DBSCAN().fit(frame), "DBSCAN, which has no predict: it only labels the rows"),
        "outliers": (LocalOutlierFactor().fit(frame), "has no predict; fit it with novelty=True"),
        "untrained": (LogisticRegression(), "was never fitted"),
        "a dict": ({"model": 1, "scaler": 2}, "holds a dict, not a model"),
        "an array": (np.arange(3.0), "holds a ndarray, which has no predict"),
        "a class": (LogisticRegression, "holds the class LogisticRegression"),
    }


@pytest.mark.parametrize("kind", list(objects()))
def test_what_cannot_predict_is_told_why(kind: str, tmp_path: Path) -> None:
    found, said = objects()[kind]
    with pytest.raises(BadPackage, match=said):
        models.packed(tmp_path, [models.saved(found, tmp_path / "model.pkl")])


def test_a_model_before_the_last_place_is_refused(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="must be the last file"):
        models.packed(tmp_path, [model_file, model_file])


def recorded(folder: Path, **libraries: str) -> Manifest:
    manifest = models.manifest_of(folder)
    return replace(manifest, libraries={**manifest.libraries, **libraries})


def test_another_minor_version_of_a_library_warns_with_both(
    model_file: Path, tmp_path: Path
) -> None:
    folder = pack([model_file], repository=tmp_path / "r")
    with pytest.warns(UserWarning, match=r"packed with scikit-learn 1\.2\.3.*pack the model again"):
        load(recorded(folder, **{"scikit-learn": "1.2.3"}), folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(models.manifest_of(folder), folder)


def test_another_major_version_of_the_framework_is_refused(
    model_file: Path, tmp_path: Path
) -> None:
    folder = pack([model_file], repository=tmp_path / "r")
    with pytest.raises(BadPackage, match=r"packed with scikit-learn 0\.24\.0"):
        load(recorded(folder, **{"scikit-learn": "0.24.0"}), folder)


def test_a_library_that_is_not_there_is_named(model_file: Path, tmp_path: Path) -> None:
    folder = pack([model_file], repository=tmp_path / "r")
    with pytest.raises(MissingExtra, match="install catboost"):
        load(recorded(folder, catboost="1.2"), folder)


@pytest.mark.parametrize(
    ("library", "name", "raw", "extra"),
    [
        ("sklearn", "model.pkl", b"\x80\x04N.", "sklearn"),
        ("joblib", "model.pkl", b"\x80\x04N.", "sklearn"),
        ("xgboost", "model.json", b'{"learner": {}}', "xgboost"),
        ("lightgbm", "model.txt", b"tree\n", "lightgbm"),
    ],
)
def test_a_missing_framework_names_the_extra_to_install(
    library: str, name: str, raw: bytes, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(MissingExtra, match=rf"install foretell\[{extra}\]"):
        models.packed(tmp_path, [tmp_path / name])


def test_loading_an_onnx_package_imports_no_scikit_learn_and_no_pandas(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    frame, y = models.numbers()
    matrix = frame.to_numpy(np.float32)
    graph = to_onnx(LinearRegression().fit(matrix, y), matrix[:1])
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    folder = models.packed(tmp_path, [tmp_path / "model.onnx"])
    script = (
        "import sys; from pathlib import Path; from foretell.core.manifest import Manifest; "
        "from foretell.runtimes import load; folder = Path(sys.argv[1]); "
        "load(Manifest.from_text((folder / 'model.json').read_text()), folder); "
        "sys.exit(bool({'sklearn', 'pandas', 'joblib', 'onnx'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


def test_an_unknown_runtime_is_refused(model_file: Path, tmp_path: Path) -> None:
    folder = pack([model_file], repository=tmp_path / "r")
    manifest = models.manifest_of(folder)
    other = replace(manifest, steps=(replace(manifest.steps[0], runtime="caffe"),))
    with pytest.raises(BadPackage, match="no runtime 'caffe'"):
        load(other, folder)


def test_the_manifest_is_plain_json_with_a_place_for_compilation(
    model_file: Path, tmp_path: Path
) -> None:
    folder = pack([model_file], repository=tmp_path / "r", compile=False)
    told = json.loads((folder / "model.json").read_text())
    assert told["compile_report"] is None
    assert told["baseline"] is None
    assert told["signature"]["example"] is not None


def test_the_signature_refuses_what_the_model_would_choke_on(
    model_file: Path, tmp_path: Path
) -> None:
    servable = models.opened(pack([model_file], repository=tmp_path / "r"))
    with pytest.raises(InvalidInput, match="sepal_length"):
        servable.signature.accept_row([float("nan"), 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"metadata": {"x": float("nan")}}, "metadata has a value that JSON cannot hold"),
        ({"metadata": {"x": object()}}, "metadata has a value that JSON cannot hold"),
        ({"metadata": {"x": "\ud800"}}, "metadata has a value that JSON cannot hold"),
        ({"metadata": 5}, "metadata is an object, not a int"),
        ({"sample": 5}, "the sample is the path of a CSV or Parquet file, not a int"),
        ({"sample": models.numbers()[0]}, "not a DataFrame"),
        ({"version": 5}, "version 5 is not usable"),
        ({"name": 5}, "model name 5 is not usable"),
        ({"files": "model.pkl"}, "files are a list of paths"),
        ({"files": None}, "files are a list of paths"),
        ({"files": [5]}, "a model file is a path, not a int"),
    ],
)
def test_arguments_of_other_types_are_refused(
    arguments: Any, said: str, model_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadPackage, match=said):
        pack(**{"files": [model_file], "repository": tmp_path / "r", **arguments})
    assert not (tmp_path / "r").exists()


def test_pipes_are_no_regular_files_and_never_waited_for(model_file: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    (tmp_path / "mine.py").write_text("class Model:\n    def predict(self, columns): ...")
    refused: list[tuple[list[str | Path], Path | None]] = [
        ([pipe], None),
        ([model_file], pipe),
        (["mine:Model", pipe], None),
        (["/dev/zero"], None),
    ]
    for files, sample in refused:
        with pytest.raises(BadPackage, match="is not a regular file"):
            pack(files, sample=sample, repository=tmp_path / "r", python_path=tmp_path)


def test_what_killed_packs_left_is_swept_when_it_is_old(model_file: Path, tmp_path: Path) -> None:
    old, young, other = (tmp_path / "r" / name for name in (".packing-old", ".packing-new", ".x"))
    for folder in (old, young, other):
        folder.mkdir(parents=True)
        (folder / "model.pkl").write_bytes(b"half")
    for folder in (old, other):
        os.utime(folder, times=(time.time() - 3700,) * 2)
    pack([model_file], repository=tmp_path / "r", compile=False)
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        ".packing-new",
        ".x",
        "churn",
    ]


def test_names_with_control_characters_are_refused(model_file: Path, tmp_path: Path) -> None:
    odd = model_file.rename(tmp_path / "a\x1b[2J.pkl")
    with pytest.raises(BadPackage, match="must be free of control characters"):
        pack([odd], name="m", repository=tmp_path / "r")
    assert not list((tmp_path / "r").iterdir())
