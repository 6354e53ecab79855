from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import Manifest
from foretell.core.signature import Signature
from foretell.packing.compiling import Compiled, apart, compile_chain, compiled
from foretell.packing.compiling.candidates import builders, converted, converting_s, mixed
from foretell.packing.compiling.drawing import formulas, trees
from foretell.packing.compiling.drawing.forest import Tree
from foretell.packing.compiling.drawing.graph import Graph
from foretell.packing.compiling.points import Points, points
from foretell.packing.compiling.prove import Proof, error_of, original_answers, prove
from foretell.packing.sample import batch_of
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.loading import open_stages
from foretell.runtimes.stages import Chain, Stage
from tests import models
from tests.packing.compiling import kinds

pytestmark = pytest.mark.slow

KINDS = kinds.every_kind()
Opened = tuple[tuple[Stage, ...], Manifest, Batch]


@pytest.fixture(autouse=True)
def _quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_PER_SIZE_S", 0.001)


def opened(name: str, tmp_path: Path) -> Opened:
    return opened_of(KINDS[name].make(), *KINDS[name].data(), tmp_path)


def opened_of(model: Any, frame: Any, y: Any, tmp_path: Path) -> Opened:
    models.trained(model, frame, y)
    folder = models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")], frame)
    manifest = models.manifest_of(folder)
    stages = open_stages(manifest.steps, folder, trusted=False)
    return stages, manifest, batch_of(frame, manifest.signature.inputs)


def compiling(parts: Opened, **options: Any) -> Compiled:
    stages, manifest, sample = parts
    return compile_chain(stages, manifest.signature, manifest.steps[0].options, sample, **options)


def told(made: Compiled, name: str) -> Any:
    return next(part for part in made.report["candidates"] if part["name"] == name)


@pytest.mark.parametrize("name", ["tree", "scaled tree"])
def test_the_naive_float32_conversion_of_a_tree_is_rejected(name: str, tmp_path: Path) -> None:
    made = compiling(opened(name, tmp_path))
    naive = told(made, "converted float32")
    if name == "scaled tree":
        assert naive["built"]
        assert not naive["proven"]
        assert naive["wrong_labels"]["thresholds"] > 0
        assert "thresholds points get another prediction" in naive["lost"]
        assert "sample" not in naive["wrong_labels"]  # the data alone does not show it
    assert made.report["chosen"] == "mixed"
    assert told(made, "mixed")["max_error"] == 0.0


def with_leaf_changed(tree: Tree, node: int) -> Tree:
    leaves = np.flatnonzero(tree.left < 0)
    value = tree.value.copy()
    leaf = leaves[node % len(leaves)]
    value[leaf] += 1e-4 * max(1.0, abs(value[leaf]))
    return replace(tree, value=value)


def with_split_moved(kind: type[np.floating[Any]]) -> Callable[[Tree, int], Tree]:
    def moved(tree: Tree, node: int) -> Tree:
        inner = np.flatnonzero(tree.left >= 0)
        place = inner[node % len(inner)]
        split = tree.split.astype(np.float64)
        split[place] = np.nextafter(kind(split[place]), kind(np.inf))
        return replace(tree, split=split)

    return moved


@pytest.mark.parametrize("node", range(3))
@pytest.mark.parametrize(
    ("name", "reader", "change"),
    [
        ("scaled tree", "_tree", with_leaf_changed),
        ("scaled tree", "_tree", with_split_moved(np.float32)),
        ("tree of numbers", "_tree", with_leaf_changed),
        ("tree of numbers", "_tree", with_split_moved(np.float32)),
        ("histogram of numbers", "_histogram_tree", with_split_moved(np.float64)),
    ],
    ids=["leaf", "split", "leaf of numbers", "split of numbers", "float64 split"],
)
def test_a_graph_with_one_leaf_or_one_threshold_changed_is_rejected(
    name: str,
    reader: str,
    change: Callable[[Tree, int], Tree],
    node: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = opened(name, tmp_path)
    faithful = getattr(trees, reader)
    done: list[Tree] = []

    def unfaithful(*given: Any) -> Tree:
        tree: Tree = faithful(*given)
        if done:
            return tree
        done.append(tree)
        return change(tree, node)

    monkeypatch.setattr(trees, reader, unfaithful)
    monkeypatch.setattr(compiled, "builders", lambda *given: islice(builders(*given), 1))
    made = compiling(parts)
    assert done
    assert not told(made, "mixed")["proven"]
    assert told(made, "mixed")["lost"].startswith("not proven: ")
    assert made.model is None


def tanh(graph: Graph, raw: str) -> str:
    return graph.op("Tanh", raw)


def argmin(graph: Graph, values: str) -> str:
    return graph.op("ArgMin", values, axis=1, keepdims=0)


@pytest.mark.parametrize(
    ("name", "place", "function", "lost"),
    [
        ("logistic, two classes", "sigmoid", tanh, "probability is off by"),
        ("logistic", "greatest", argmin, "get another prediction"),
    ],
)
def test_a_graph_with_another_link_is_rejected(
    name: str,
    place: str,
    function: Callable[[Graph, str], str],
    lost: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = opened(name, tmp_path)
    assert told(compiling(parts), "mixed")["proven"]
    monkeypatch.setattr(formulas, place, function)
    made = compiling(parts)
    assert not told(made, "mixed")["proven"]
    assert lost in told(made, "mixed")["lost"]
    assert made.report["chosen"] != "mixed"


def test_a_graph_that_is_no_faster_loses_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_seconds", lambda servable, make: 1.0)
    made = compiling(opened("linear", tmp_path))
    assert made.model is None
    assert told(made, "mixed")["proven"]
    assert told(made, "mixed")["speed_up"] == {"1": 1.0, "32": 1.0, "1000": 1.0}
    assert "not faster than the original: 1.00 times" in made.report["reason"]


def in_turns(*times: float) -> Callable[..., float]:
    """A clock: seconds of the original and of each proven graph, in their order."""
    turns = cycle(times)
    return lambda servable, make: next(turns)


@pytest.mark.parametrize(
    ("times", "chosen", "lost"),
    [
        ((9.0, 3.0, 1.6, 1.7), "mixed", ["", "less than 2.0 times as fast", "less than 2.0"]),
        ((9.0, 3.0, 1.5, 1.0), "converted float64", ["64 is faster", "", "less than 2.0"]),
        ((9.0, 3.0, 1.5, 0.7), "converted float32", ["64 is faster", "32 is faster", ""]),
        ((9.0, 9.0, 2.0, 1.9), "converted float64", ["not faster than the", "", "less than 2.0"]),
    ],
)
def test_the_fastest_proven_graph_wins_unless_an_earlier_one_is_nearly_as_fast(
    times: tuple[float, ...],
    chosen: str,
    lost: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "_seconds", in_turns(*times))
    monkeypatch.setattr(compiled, "prove", lambda *given: Proof())
    made = compiling(opened("tree", tmp_path))
    told = made.report["candidates"]
    assert [part["speed_up"]["1"] for part in told] == [round(9.0 / t, 2) for t in times[1:]]
    assert made.report["chosen"] == chosen
    for part, words in zip(told, lost, strict=True):
        assert words in part.get("lost", "")
        assert ("lost" in part) == bool(words)


def test_a_large_forest_is_not_given_to_the_generic_converter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = opened("forest of whole numbers", tmp_path)
    (forest,) = (stage.estimator for stage in parts[0] if isinstance(stage, EstimatorStage))
    needed = converting_s([forest])
    assert needed == 50e-6 * sum(tree.tree_.node_count for tree in forest.estimators_)
    monkeypatch.setattr(compiled, "CONVERTING_S", needed)
    assert "not tried" not in str(compiling(parts).report)
    monkeypatch.setattr(compiled, "CONVERTING_S", needed * 0.99)
    made = compiling(parts)
    assert made.report["chosen"] == "mixed"
    words = "not tried: converting it would take about 0 s"
    assert [part["error"] for part in made.report["candidates"]] == [None, words, words]
    # while nothing is proven, the converter may take longer
    monkeypatch.setattr(compiled, "prove", lambda *given: Proof(failure="it is not asked"))
    assert "not tried" not in str(compiling(parts).report)
    monkeypatch.setattr(compiled, "CONVERTING_AT_ALL_S", needed * 0.99)
    assert words in str(compiling(parts).report)


def test_a_converted_graph_that_ends_its_process_does_not_end_the_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = opened("tree", tmp_path)
    made = compiling(parts)
    assert "ends the process" not in str(made.report)
    monkeypatch.setattr(apart, "_PROGRAM", "import os; os.abort()")
    made = compiling(parts)
    assert made.report["chosen"] == "mixed"
    for name in ("converted float64", "converted float32"):
        assert told(made, name)["lost"] == "not proven: running it ends the process (SIGABRT)"
        assert not told(made, name)["proven"]
    monkeypatch.setattr(apart, "_PROGRAM", "while True: pass")
    monkeypatch.setattr(apart, "LONGEST_S", 0.2)
    lost = told(compiling(parts), "converted float32")["lost"]
    assert lost == "not proven: running it takes more than 0 s"


@pytest.mark.parametrize("columns", ["numbers", "numbers and texts"])
def test_a_converted_graph_runs_apart_on_the_points_as_it_will_run_here(
    columns: str, tmp_path: Path
) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame, y = kinds.churn()
    known = [*models.CHURN_TEXTS] if columns == "numbers and texts" else []
    whole = frame[[*known, "senior_citizen", "tenure"]].notna().all(axis=1)
    frame, y = frame.loc[whole, ["senior_citizen", *known, "tenure"]], y[whole]
    encoder = make_column_transformer((OneHotEncoder(), known), remainder="passthrough")
    parts = opened_of(make_pipeline(encoder, LogisticRegression(max_iter=300)), frame, y, tmp_path)
    stages, manifest, sample = parts
    graph = converted("converted float32", stages, manifest.signature, np.float32)
    assert graph.model is not None, graph.error
    ran = apart.run_apart(graph.model, [sample, sample.slice(0, 3)], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "fails on" not in str(told(compiling(parts), "converted float32"))


def test_an_isolation_forest_takes_the_generic_converter_long(tmp_path: Path) -> None:
    stages, _, _ = opened("isolation", tmp_path)
    assert (
        converting_s([stage.estimator for stage in stages if isinstance(stage, EstimatorStage)]) > 2
    )


def test_what_is_not_tried_in_time_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "LONGEST_S", 0.0)
    made = compiling(opened("linear", tmp_path))
    assert made.model is None
    assert {part["error"] for part in made.report["candidates"]} == {"not tried: 0 s were over"}
    assert made.report["reason"] == "not tried: 0 s were over"


def test_the_same_seed_makes_the_same_points_and_graph(tmp_path: Path) -> None:
    parts = opened("scaled tree", tmp_path)
    first, second, other = (compiling(parts, seed=seed) for seed in (3, 3, 4))
    assert first.model == second.model == other.model
    assert first.report["points"] == second.report["points"]
    assert first.report["seed"] == 3


@pytest.mark.parametrize("name", ["one-hot forest", "forest of whole numbers", "tree with gaps"])
def test_points_are_rows_that_the_signature_accepts(name: str, tmp_path: Path) -> None:
    stages, manifest, sample = opened(name, tmp_path)
    cuts = mixed(stages, manifest.signature, manifest.steps[0].options, 0).cuts
    around = points(sample, cuts, 0)
    assert {"sample", "perturbed", "shuffled", "thresholds", "extreme", "missing"} <= set(
        around.batches
    )
    assert 100 < sum(around.counts.values()) < 7000
    for batch in around.batches.values():
        for row in batch.slice(0, 400).rows:
            manifest.signature.accept_row(row)


class Answering:
    """A servable that answers what it is told to."""

    def __init__(self, signature: Signature, *columns: Any, refuses: float | None = None) -> None:
        self.signature = signature
        self.columns = tuple(np.asarray(column) for column in columns)
        self.refuses = refuses

    def predict(self, batch: Batch) -> Batch:
        asked = batch.matrix[:, 0]
        if self.refuses is not None and (asked == self.refuses).any():
            raise ValueError("no such number")
        places = asked.astype(int)
        return Batch.from_columns(
            self.signature.outputs, [column[places] for column in self.columns]
        )


SIGNATURE = Signature(
    (Field("x", Datatype.FP64),),
    (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64)),
)
LABELS, CHANCES = [0, 1, 0, 1], [0.1, 0.7, 0.2, 0.9]


def test_points_on_which_the_original_raises_are_left_out() -> None:
    sample = Batch.from_matrix(SIGNATURE.inputs, np.arange(4.0).reshape(-1, 1))
    original = Answering(SIGNATURE, LABELS, CHANCES, refuses=2.0)
    expected = original_answers(original, Points({"sample": sample}))
    asked, answers = expected["sample"]
    assert asked.matrix[:, 0].tolist() == [0.0, 1.0, 3.0]
    assert answers.column("prediction").tolist() == [0, 1, 1]
    assert prove(Answering(SIGNATURE, LABELS, CHANCES), expected).failure is None
    refusing = Answering(SIGNATURE, LABELS, CHANCES, refuses=3.0)
    assert prove(refusing, expected).failure == "fails on sample points: no such number"
    wrong = prove(Answering(SIGNATURE, [0, 0, 0, 1], CHANCES), expected)
    assert wrong.failure == "1 of 3 sample points get another prediction: 0 in place of 1"
    off = prove(Answering(SIGNATURE, LABELS, [0.1, 0.71, 0.2, 0.9]), expected)
    assert off.failure == "probability is off by 0.01 on sample points"
    narrow = Answering(SIGNATURE, np.array(LABELS, np.int32), CHANCES)
    assert prove(narrow, expected).failure == "prediction is int32 () in place of int64 ()"


@pytest.mark.parametrize(
    ("given", "wanted", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([0.0, 1.0], [np.nan, 1.0], np.inf),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        ([2e-9, 2.0, 2.0], [1e-9, 2.0, 2.0], 5e-10),
        ([], [], 0.0),
    ],
)
def test_an_error_is_relative_and_nan_and_infinity_must_match(
    given: list[float], wanted: list[float], error: float
) -> None:
    found = error_of(np.array(given), np.array(wanted), unit=False)
    assert found == pytest.approx(error)


def test_the_original_of_a_chain_is_its_servable(tmp_path: Path) -> None:
    stages, manifest, sample = opened("linear", tmp_path)
    original = Chain(manifest.signature, stages, manifest.steps[0].options)
    expected = original_answers(original, points(sample, (), 0))
    assert prove(original, expected).max_error == 0.0
