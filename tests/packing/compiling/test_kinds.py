import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.core.manifest import Step
from foretell.core.servable import Servable
from foretell.packing import pack
from foretell.packing.compiling import compiled
from foretell.packing.compiling.candidates import mixed
from foretell.packing.compiling.points import points
from foretell.packing.compiling.prove import TOLERANCE, original_answers, prove
from foretell.packing.sample import batch_of
from foretell.runtimes.loading import open_stages
from foretell.runtimes.stages import Chain
from tests import models
from tests.packing.compiling import kinds

KINDS = kinds.every_kind()
OTHER_SEED = 7
QUICK = (
    "logistic",
    "ridge",
    "tree with gaps",
    "forest",
    "boosting",
    "one-hot logistic",
)
"""Kinds that compile in a moment: the rest wait for `make test`."""


@pytest.fixture(autouse=True)
def _quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    # which graph is proven is under test here, not by how much it is faster
    monkeypatch.setattr(compiled, "_PER_SIZE_S", 0.004)


def params() -> list[Any]:
    return [
        pytest.param(name, id=name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in KINDS
    ]


def packed(kind: kinds.Kind, model: Any, tmp_path: Path) -> Path:
    frame, _ = kind.data()
    sample = tmp_path / "sample.parquet"
    frame.to_parquet(sample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pack(
            [models.saved(model, tmp_path / "model.pkl")],
            sample=sample,
            repository=tmp_path / "repository",
            trust=kind.trust,
        )


@pytest.mark.parametrize("name", params())
def test_a_kind_of_model_is_compiled_or_not_and_answers_as_the_original(
    name: str, tmp_path: Path
) -> None:
    kind = KINDS[name]
    frame, y = kind.data()
    model = models.trained(kind.make(), frame, y)
    folder = packed(kind, model, tmp_path)
    manifest = models.manifest_of(folder)
    report = manifest.compile_report
    assert report is not None
    assert report["chosen"] == kind.chosen, report
    assert kind.reason in (report["reason"] or "")
    assert (manifest.steps[0].runtime == "onnx") == (kind.chosen is not None)
    servable = models.opened(folder)
    if kind.chosen:
        assert_proven(report)
        assert_answers_between_thresholds(servable, kind, folder)
    answers = models.answered(servable, frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert answers["prediction"].shape == model.predict(frame).shape
        assert_near(answers["prediction"], model.predict(frame))
        if hasattr(model, "predict_proba"):
            assert_near(answers["probability"], model.predict_proba(frame))
        if "score" in answers:
            assert_near(answers["score"], model.decision_function(frame))


def assert_near(answer: Any, wanted: Any) -> None:
    expected = np.asarray(wanted)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        assert answer.tolist() == expected.tolist()


def assert_proven(report: Any) -> None:
    won = next(part for part in report["candidates"] if part["name"] == report["chosen"])
    assert won["built"]
    assert won["proven"]
    assert won["max_error"] <= TOLERANCE
    assert set(won["speed_up"]) == {"1", "32", "1000"}
    assert won["points"]["sample"] > 0


def assert_answers_between_thresholds(servable: Servable, kind: kinds.Kind, folder: Path) -> None:
    """Points of another seed than the proof's, thresholds included, against the original."""
    manifest = models.manifest_of(folder)
    assert manifest.compile_report is not None
    told = manifest.compile_report["original"]["steps"]  # kept in the package, never loaded
    steps = tuple(Step(part["runtime"], tuple(part["files"]), part["options"]) for part in told)
    stages = open_stages(steps, folder, trusted=kind.trust)
    options = steps[0].options
    original = Chain(manifest.signature, stages, options)
    cuts = mixed(stages, manifest.signature, options, OTHER_SEED).cuts
    sample = batch_of(kind.data()[0], manifest.signature.inputs)
    around = points(sample, cuts, OTHER_SEED)
    assert ("thresholds" in around.batches) == bool(cuts)
    proof = prove(servable, original_answers(original, around))
    assert proof.failure is None
    assert proof.points["sample"] > 0


def test_at_least_twenty_five_kinds_are_compiled() -> None:
    assert sum(kind.chosen is not None for kind in KINDS.values()) >= 25
    assert set(QUICK) <= set(KINDS)
