"""Bulk forms: cut from a model's own graph, proven like it, on the kernel over its trees."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from foretell.core.batch import Batch
from foretell.core.servable import Servable
from foretell.core.signature import Signature
from foretell.packing import pack
from foretell.packing.compiling.bulk import BulkForm, bulk_form, opened
from foretell.packing.compiling.candidates import mixed
from foretell.packing.compiling.points import points
from foretell.packing.compiling.prove import original_answers, prove
from foretell.packing.sample import batch_of
from foretell.runtimes.loading import open_stages
from foretell.runtimes.stages import Chain
from tests import models
from tests.packing.compiling import kinds

KINDS = kinds.every_kind()
SEED = 11
EXACT = 1e-12
"""The trees add up to the last bit; what comes behind them may round in another order."""

CUT = """
    tree|scaled tree|tree with gaps|forest|forest of ten classes|forest of whole numbers|extra trees
    boosting|boosting, three classes|boosting, exponential|histogram|histogram, three classes
    tree of numbers|forest of numbers|forest of two targets|boosting of numbers
    histogram of numbers|lightgbm|lightgbm with gaps|lightgbm of categories|lightgbm of numbers
    lightgbm, zero is missing|lightgbm around zero|xgboost|xgboost with gaps|xgboost of categories
    xgboost of numbers|one-hot forest|rare one-hot boosting|ordinal histogram
    histogram of categories|isolation|isolation of some|scaled tree of float32|stacking
    voting of numbers
"""
QUICK = ("tree with gaps", "boosting, three classes", "lightgbm of categories", "one-hot forest")


@dataclass(frozen=True)
class Drawn:
    """A trained model, its sample, and the graph that was drawn of it."""

    original: Servable
    signature: Signature
    sample: Batch
    model: bytes
    options: Mapping[str, Any]
    answers: Any

    def form(self) -> BulkForm:
        return bulk_form(self.model, self.options)


def drawn(name: str, tmp_path: Path) -> Drawn:
    kind = KINDS[name]
    frame, y = kind.data()
    frame.to_parquet(tmp_path / "sample.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = models.trained(kind.make(), frame, y)
        folder = pack(
            [models.saved(model, tmp_path / "model.pkl")],
            sample=tmp_path / "sample.parquet",
            repository=tmp_path / "repository",
            trust=kind.trust,
            compile=False,
        )
    manifest = models.manifest_of(folder)
    stages = open_stages(manifest.steps, folder, trusted=kind.trust)
    options = manifest.steps[0].options
    candidate = mixed(stages, manifest.signature, options, SEED)
    assert candidate.model is not None
    original = Chain(manifest.signature, stages, options)
    sample = batch_of(frame, manifest.signature.inputs)
    answers = original_answers(original, points(sample, candidate.cuts, SEED))
    return Drawn(original, manifest.signature, sample, candidate.model, candidate.options, answers)


def cut_kinds() -> list[Any]:
    names = [name.strip() for line in CUT.strip().splitlines() for name in line.split("|")]
    return [
        pytest.param(name, id=name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in names
    ]


@pytest.mark.parametrize("name", cut_kinds())
def test_a_kind_of_trees_answers_in_bulk_as_the_original(name: str, tmp_path: Path) -> None:
    made = drawn(name, tmp_path)
    servable = opened(made.form(), made.signature, tmp_path)
    proof = prove(servable, made.answers)
    assert proof.failure is None
    assert proof.points["sample"] > 0
    assert proof.max_error <= (1e-6 if "xgboost" in name else EXACT)
