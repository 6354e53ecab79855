"""Bulk forms: cut from a model's own graph, proven like it, on the kernel over its trees."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell.core.batch import Batch
from foretell.core.servable import Servable
from foretell.core.signature import Signature
from foretell.errors import BadPackage
from foretell.packing import pack
from foretell.packing.compiling.bulk import BulkForm, bulk_form, opened
from foretell.packing.compiling.candidates import mixed
from foretell.packing.compiling.drawing.graph import Unfaithful
from foretell.packing.compiling.points import points
from foretell.packing.compiling.prove import original_answers, prove
from foretell.packing.sample import batch_of
from foretell.runtimes.loading import open_stages
from foretell.runtimes.stages import Chain, StageFiles
from foretell.runtimes.trees.stage import open_stage
from foretell.runtimes.trees.table import TreeTable
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


@pytest.mark.slow
@pytest.mark.parametrize("name", cut_kinds())
def test_a_kind_of_trees_answers_in_bulk_as_the_original(name: str, tmp_path: Path) -> None:
    made = drawn(name, tmp_path)
    servable = opened(made.form(), made.signature, tmp_path)
    proof = prove(servable, made.answers)
    assert proof.failure is None
    assert proof.points["sample"] > 0
    assert proof.max_error <= (1e-6 if "xgboost" in name else EXACT)


def test_the_trees_of_classes_become_one_with_a_value_for_each(tmp_path: Path) -> None:
    forest = drawn("forest of ten classes", tmp_path)
    table = table_of(forest.form())
    assert table.width.max() == 10
    assert table.n_trees == 10


def test_the_trees_of_boosting_stay_apart_and_their_start_is_no_tree(tmp_path: Path) -> None:
    table = table_of(drawn("boosting, three classes", tmp_path).form())
    assert table.n_trees == 3 * 10
    assert table.target.tolist() == [0, 1, 2] * 10
    assert set(table.width) == {1}
    assert (table.start != 0).all()


def test_a_graph_before_the_trees_is_made_only_where_it_does_something(tmp_path: Path) -> None:
    names = {
        "tree": ["bulk-trees.npz", "bulk-after.onnx"],
        "scaled tree": ["bulk-before.onnx", "bulk-trees.npz", "bulk-after.onnx"],
        "xgboost": ["bulk-trees.npz", "bulk-after.onnx"],
    }
    for name, files in names.items():
        folder = tmp_path / name
        folder.mkdir()
        assert list(drawn(name, folder).form().files) == files


@pytest.mark.parametrize(
    ("name", "words"),
    [("logistic", "no tree ensembles"), ("adaptive", "5 tree ensembles")],
)
def test_what_cannot_be_cut_is_told(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unfaithful, match=words):
        drawn(name, tmp_path).form()


@pytest.mark.slow
def test_threads_answer_as_one_does(tmp_path: Path) -> None:
    made = drawn("tree with gaps", tmp_path)
    form = made.form()
    alone = opened(form, made.signature, tmp_path)
    stage = open_stage(StageFiles(tmp_path, tuple(form.files), form.options, threads=3))
    together = Chain(made.signature, (stage,), form.options)
    many = Batch.concat([made.sample] * 40)
    assert many.n_rows > 2 * 4096
    for one, other in zip(alone.predict(many).columns, together.predict(many).columns, strict=True):
        np.testing.assert_array_equal(one, other)


def test_damaged_trees_and_graphs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    made = drawn("tree", tmp_path)
    form = made.form()
    table, after = form.files.values()
    wrong = (
        (BulkForm({"t.npz": table[:-50], "a.onnx": after}, form.options), "no readable trees"),
        (BulkForm({"t.npz": table, "a.onnx": after[:9]}, form.options), "not a readable ONNX"),
        (BulkForm({"t.npz": table, "a.onnx": made.model}, form.options), "does not take the sums"),
        (BulkForm({"t.npz": table}, form.options), "two files or three"),
        (BulkForm(form.files, {**form.options, "casts": ["int8"]}), "not to 'int8'"),
    )
    for other, words in wrong:
        with pytest.raises(BadPackage, match=words):
            opened(other, made.signature, tmp_path)


def mixed_numbers() -> kinds.Data:
    """Floats and whole numbers: columns of several datatypes, and no texts."""
    frame, y = kinds.churn()
    return frame[["tenure", "total_charges", "senior_citizen"]].fillna(0.0), y


def without_texts() -> Any:
    numbers = ColumnTransformer([("numbers", "passthrough", ["tenure", "total_charges"])])
    return make_pipeline(numbers, small_forest())


def voting_of_all() -> Any:
    """One forest of numbers, one formula of texts: what follows the trees asks for the rest."""
    texts = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore"), ["contract", "payment_method"])]
    )
    return VotingClassifier(
        [("trees", without_texts()), ("formula", make_pipeline(texts, LogisticRegression()))],
        voting="soft",
    )


def small_forest() -> Any:
    return RandomForestClassifier(5, max_depth=4, random_state=0)


def one_column() -> kinds.Data:
    frame, y = kinds.cancer()
    return frame[["mean_radius"]], y


def whole_churn() -> kinds.Data:
    frame, y = kinds.churn()
    return frame.fillna({"tenure": 0.0, "total_charges": 0.0}), y


OTHERS = {
    "floats and whole numbers": kinds.Kind(small_forest, mixed_numbers),
    "texts that no tree asks for": kinds.Kind(without_texts, whole_churn),
    "texts beside the trees": kinds.Kind(voting_of_all, whole_churn),
    "one column": kinds.Kind(small_forest, one_column),
    "one scaled column": kinds.Kind(
        lambda: make_pipeline(StandardScaler(), small_forest()), one_column
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_columns_of_every_kind_come_to_the_trees(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, name, OTHERS[name])
    made = drawn(name, tmp_path)
    proof = prove(opened(made.form(), made.signature, tmp_path), made.answers)
    assert proof.failure is None
    assert proof.max_error <= EXACT


def test_columns_that_must_not_be_written_to_are_read(tmp_path: Path) -> None:
    made = drawn("tree", tmp_path)
    servable = opened(made.form(), made.signature, tmp_path)
    wanted = servable.predict(made.sample)
    matrix = np.asfortranarray(made.sample.matrix)
    matrix.flags.writeable = False
    given = servable.predict(Batch.from_matrix(made.sample.fields, matrix))
    for one, other in zip(given.columns, wanted.columns, strict=True):
        assert one.tolist() == other.tolist()


def table_of(form: BulkForm) -> TreeTable:
    return TreeTable.from_bytes(form.files["bulk-trees.npz"], "trees")
