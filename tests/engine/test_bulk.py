"""The bulk form: taken where it is measured to be faster, and never opened unasked."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import pytest

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import Manifest
from foretell.core.signature import Signature
from foretell.engine import bulk, fleet, repository
from foretell.engine.executors.choosing import ExecutorKind
from foretell.errors import BadPackage, MissingExtra
from foretell.packing import pack
from foretell.packing.compiling import compiled
from foretell.packing.compiling.bulk import BulkForm
from foretell.packing.compiling.splitting import split
from tests import models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose bulk form is many times as fast as its graph."""
    from sklearn.ensemble import GradientBoostingClassifier

    folder = tmp_path_factory.mktemp("boosted")
    frame, y = models.numbers()
    return pack(
        [models.saved(GradientBoostingClassifier().fit(frame, y), folder / "model.pkl")],
        sample=models.sampled(frame, folder / "sample.csv"),
        repository=folder / "models",
    )


@pytest.fixture
def loaded(boosted: Path) -> Iterator[fleet.Loaded]:
    made = fleet.load(repository.read(boosted), kind=ExecutorKind.THREAD)
    yield made
    made.executor.close()


def test_a_package_of_trees_has_a_proven_bulk_form(boosted: Path) -> None:
    package = repository.read(boosted)
    repository.verify(package)
    manifest = package.manifest
    assert manifest.bulk is not None
    assert manifest.bulk.runtime == "trees"
    listed = {artifact.path for artifact in manifest.files}
    assert {"bulk-trees.npz", "bulk-after.onnx"} == set(manifest.bulk.files) <= listed
    report = (manifest.compile_report or {})["bulk"]
    assert report["proven"]
    assert report["max_error"] <= 1e-12
    assert report["speed_up"]["10000"] >= 1.2
    assert "numba" not in manifest.libraries  # a server of single rows does without


def test_the_bulk_form_is_taken_for_many_rows_and_answers_alike(loaded: fleet.Loaded) -> None:
    many = loaded.for_bulk(20_000)
    assert many.predict is not loaded.predict
    assert (many.manifest, many.executor) == (loaded.manifest, loaded.executor)
    batch = bulk.varied(loaded.signature, 5000)()
    assert batch.n_rows == 5000
    for one, other in zip(many.predict(batch).columns, loaded.predict(batch).columns, strict=True):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
        else:
            assert one.tolist() == other.tolist()


def test_the_plain_form_stays_where_it_is_faster(
    loaded: fleet.Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bulk, "_seconds", lambda plain, bulk, make: [1.0, 1.5])
    with caplog.at_level("INFO"):
        assert loaded.for_bulk(1000) is loaded
    assert "answers 1000 rows in 1000.00 ms, in bulk in 1500.00 ms" in caplog.text


@pytest.mark.parametrize(("by_bulk", "calls"), [(0.001, 1), (0.003, 3), (0.02, 3)])
def test_what_is_clearly_faster_is_measured_once(
    loaded: fleet.Loaded, monkeypatch: pytest.MonkeyPatch, by_bulk: float, calls: int
) -> None:
    now = 0.0
    asked = {"plain": 0, "bulk": 0}

    def taking(seconds: float, form: str) -> Callable[[Batch], Batch]:
        def predict(batch: Batch) -> Batch:
            nonlocal now
            now += seconds
            asked[form] += 1
            return batch

        return predict

    monkeypatch.setattr("foretell.engine.bulk.time.perf_counter", lambda: now)
    make = bulk.varied(loaded.signature, 10)
    found = bulk._seconds(taking(0.004, "plain"), taking(by_bulk, "bulk"), make)
    assert found == pytest.approx([0.004, by_bulk])
    assert asked == {"plain": calls, "bulk": calls}


@pytest.mark.parametrize(("asked", "measured"), [(500, 500), (10**9, bulk.MOST_ROWS)])
def test_no_more_rows_are_measured_than_say_something(
    loaded: fleet.Loaded, asked: int, measured: int
) -> None:
    seen = []

    def predict(batch: Batch) -> Batch:
        seen.append(batch.n_rows)
        return loaded.predict(batch)

    replace(loaded, predict=predict).for_bulk(asked)
    assert set(seen) == {measured}


def test_the_plain_form_stays_where_the_extra_is_missing(
    loaded: fleet.Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise MissingExtra("install foretell[bulk]: trees need numba")

    monkeypatch.setattr("foretell.runtimes.load_bulk", missing)
    with caplog.at_level("INFO"):
        assert loaded.for_bulk(1000) is loaded
    assert "install foretell[bulk]" in caplog.text


def test_a_package_without_a_bulk_form_is_the_same_in_bulk(loaded: fleet.Loaded) -> None:
    plain = replace(loaded, manifest=replace(loaded.manifest, bulk=None))
    assert plain.for_bulk(1000) is plain


def test_a_bulk_form_that_cannot_be_read_is_refused(loaded: fleet.Loaded, tmp_path: Path) -> None:
    with pytest.raises(BadPackage):
        replace(loaded, folder=tmp_path).for_bulk(1000)


PROGRAM = """
import sys
from pathlib import Path
from foretell.engine import fleet, repository

loaded = fleet.load(repository.read(Path(sys.argv[1])))
assert not {"llvmlite", "numba"} & set(sys.modules), "a server opened the bulk form"
sys.modules["llvmlite"] = sys.modules["numba"] = None  # not installed
assert loaded.for_bulk(20_000) is loaded
"""


BROKEN = """
import sys
from pathlib import Path
from foretell.engine import fleet, repository

loaded = fleet.load(repository.read(Path(sys.argv[1])))
sys.path.insert(0, sys.argv[2])
assert loaded.for_bulk(20_000) is loaded
"""


@pytest.mark.parametrize(
    ("library", "raises"),
    [
        ("numba", "AttributeError('module has no attribute types')"),
        ("numba", "ImportError('Numba needs NumPy 2.3 or less')"),
        ("llvmlite", "OSError('Could not find/load shared object file')"),
    ],
)
def test_a_numba_that_cannot_be_imported_is_done_without(
    boosted: Path, tmp_path: Path, library: str, raises: str
) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text(f"raise {raises}")
    done = run(
        [sys.executable, "-c", BROKEN, str(boosted), str(tmp_path)],
        env=os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path / "kept"), "HOME": "/dev/null"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_server_never_opens_it_and_a_machine_without_numba_does_without(boosted: Path) -> None:
    done = run(
        [sys.executable, "-c", PROGRAM, str(boosted)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[], Manifest]:
    """Packs a small tree, and reads what the package says about itself."""
    from sklearn.tree import DecisionTreeClassifier

    frame, y = models.numbers()

    def packed() -> Manifest:
        folder = pack(
            [models.saved(DecisionTreeClassifier().fit(frame, y), tmp_path / "model.pkl")],
            sample=models.sampled(frame, tmp_path / "sample.csv"),
            repository=tmp_path / "models",
        )
        return models.manifest_of(folder)

    return packed


def test_packing_without_numba_tells_why_there_is_no_bulk_form(
    tree: Callable[[], Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("llvmlite", "numba", "foretell.runtimes.trees.native"):
        monkeypatch.setitem(sys.modules, name, None)
    manifest = tree()
    assert manifest.bulk is None
    assert manifest.steps[0].runtime == "onnx"
    assert "install foretell[bulk]" in (manifest.compile_report or {})["bulk"]["error"]


def test_a_bulk_form_that_cannot_be_made_costs_the_package_nothing_else(
    tree: Callable[[], Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise IndexError("out of bounds")

    monkeypatch.setattr(compiled, "bulk_form", broken)
    manifest = tree()
    assert manifest.bulk is None
    assert manifest.steps[0].runtime == "onnx"
    assert (manifest.compile_report or {})["bulk"]["error"] == "IndexError: out of bounds"


def test_a_bulk_form_that_answers_otherwise_is_not_kept(
    tree: Callable[[], Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: bytes, options: Mapping[str, Any]) -> BulkForm:
        parts = split(model, options)
        values = parts.table.values[::-1].copy()
        table = replace(parts.table, values=values).to_bytes()
        return BulkForm({"bulk-trees.npz": table, "bulk-after.onnx": parts.after}, parts.options)

    monkeypatch.setattr(compiled, "bulk_form", wrong)
    manifest = tree()
    assert manifest.bulk is None
    assert not any(artifact.path.startswith("bulk") for artifact in manifest.files)
    report = (manifest.compile_report or {})["bulk"]
    assert not report["proven"]
    assert "not proven" in report["lost"]


def test_rows_that_differ_are_made_of_an_example_within_what_its_fields_take() -> None:
    fields = (
        Field("share", Datatype.FP64, minimum=0, maximum=1),
        Field("count", Datatype.INT64),
        Field("size", Datatype.UINT8),
        Field("plan", Datatype.BYTES),
        Field("vector", Datatype.FP32, shape=(2,)),
    )
    outputs = (Field("prediction", Datatype.FP64),)
    signature = Signature(fields, outputs, example=(0.5, 3, 1, "a", [1.0, 2.0]))
    batch = bulk.varied(signature, 200)()
    share, count, size, plan, vector = batch.columns
    assert 0 <= share.min() < share.max() <= 1
    assert count.dtype == np.int64
    assert len(set(count.tolist())) > 2
    assert size.dtype == np.uint8
    assert size.max() < 100
    assert set(plan) == {"a"}
    assert vector.shape == (200, 2)
    assert len(np.unique(vector)) > 100
