"""One row alone is answered in memory of its own, as it is among many."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from foretell.core.batch import Batch, Chosen, column_values
from foretell.errors import BadPackage
from foretell.runtimes.onnx_files import OnnxStage, open_graph, open_stage
from foretell.runtimes.stages import StageFiles, answering
from tests import models


def drawn(
    folder: Path, nodes: list[Any], given: tuple[Any, Any], *answers: Any, **constants: Any
) -> Path:
    """An ONNX file of one input `x` (its type and shape) and `answers` (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", *given)],
        [helper.make_tensor_value_info(*answer) for answer in answers],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = folder / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def opened(path: Path) -> OnnxStage:
    return open_stage(StageFiles(path.parent, (path.name,), {}))


def answering_alone_and_among_many(stage: OnnxStage, rows: list[tuple[Any, ...]]) -> None:
    """Each of `rows` alone is answered as it is among all of them."""
    fields = stage.known.fields
    assert fields is not None
    answer = answering((stage,), fields, {})
    together = answer(Batch.from_rows(fields, rows))
    for place, row in enumerate(rows):
        alone = answer(Batch.from_rows(fields, [row]))
        assert list(alone) == list(together)
        for name, column in together.items():
            one, all_rows = column_values(alone[name]), column_values(column)
            assert one.dtype == all_rows.dtype
            models.assert_same(one, all_rows[place : place + 1])


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT", "INT64", "INT32", "UINT8"])
def test_a_row_alone_is_answered_as_among_many_in_memory_of_its_own(
    kind: str, tmp_path: Path
) -> None:
    element = getattr(TensorProto, kind)
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["total"], keepdims=1),
        helper.make_node("Add", ["x", "x"], ["twice"]),
    ]
    outputs: list[Any] = [("total", element, [None, 1]), ("twice", element, [None, 3])]
    axis = np.array([1])
    if kind == "UINT8":  # ONNX Runtime has no sum of them
        nodes, outputs = [helper.make_node("Identity", ["x"], ["twice"])], outputs[1:]
    path = drawn(tmp_path, nodes, (element, [None, 3]), *outputs, axis=axis)
    stage = opened(path)
    assert stage.is_bound
    missing: list[tuple[Any, ...]] = [(None, 1.5, -2.0), (float("nan"), 0.0, 1.0)]
    rows: list[tuple[Any, ...]] = [(1, 2, 3), (100, 0, 7), (1, 2, 3)]
    answering_alone_and_among_many(stage, rows + missing * (kind in ("DOUBLE", "FLOAT")))


def test_answers_kept_by_who_asked_are_not_overwritten_by_the_next_row(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    shape = (TensorProto.DOUBLE, [None, 2])
    stage = opened(drawn(tmp_path, [node], shape, ("y", *shape)))
    first, second = (
        column_values(stage.predict((1.0, 2.0))["y"]),
        column_values(stage.predict((3.0, 4.0))["y"]),
    )
    assert first.tolist() == [[2.0, 4.0]]
    assert second.tolist() == [[6.0, 8.0]]


def test_rows_of_many_threads_at_once_are_answered_each_with_its_own(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = np.random.default_rng(0).normal(size=(200, 200))
    shape = (TensorProto.DOUBLE, [None, 200])
    stage = opened(drawn(tmp_path, [node], shape, ("y", *shape), w=weights))
    assert stage.is_bound
    rows = [(float(n),) * 200 for n in range(8)]
    expected = [column_values(stage.predict(row)["y"]) for row in rows]
    start = Barrier(len(rows))

    def ask(place: int) -> bool:
        start.wait()
        given = [column_values(stage.predict(rows[place])["y"]) for _ in range(300)]
        return all(np.allclose(one, expected[place], rtol=1e-12) for one in given)

    with ThreadPoolExecutor(len(rows)) as pool:
        assert all(pool.map(ask, range(len(rows))))


def test_a_graph_that_refuses_a_row_of_zeros_or_has_other_sizes_is_served_all_the_same(
    tmp_path: Path,
) -> None:
    double = TensorProto.DOUBLE
    places = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sub", ["whole", "three"], ["place"]),
        helper.make_node("Gather", ["table", "place"], ["y"], axis=0),
    ]
    path = drawn(
        tmp_path,
        places,
        (double, [None, 2]),
        ("y", double, [None, 2]),
        table=np.array([5.0, 7.0]),
        three=np.array(3),
    )
    stage = opened(path)
    assert not stage.is_bound  # 0 is out of the table
    answering_alone_and_among_many(stage, [(3.0, 4.0), (2.0, 1.0)])
    wider = [helper.make_node("Compress", ["x", "some"], ["y"], axis=1)]
    some = np.array([True, False])
    anything = ("y", double, ["n", "any"])
    stage = opened(drawn(tmp_path, wider, (double, [None, 2]), anything, some=some))
    assert not stage.is_bound
    answering_alone_and_among_many(stage, [(3.0, 4.0), (2.0, 1.0)])


def test_what_the_graph_raises_for_one_row_is_raised_and_the_next_row_is_answered(
    tmp_path: Path,
) -> None:
    double = TensorProto.DOUBLE
    nodes = [
        helper.make_node("Cast", ["x"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["y"], axis=0),
    ]
    table = np.array([5.0, 7.0])
    path = drawn(tmp_path, nodes, (double, [None, 2]), ("y", double, [None, 2]), table=table)
    stage = opened(path)
    assert stage.is_bound
    with pytest.raises(Exception, match="out of data bounds"):
        stage.predict((0.0, 9.0))
    assert column_values(stage.predict((0.0, 1.0))["y"]).tolist() == [[5.0, 7.0]]


def test_idle_threads_of_a_session_do_not_spin(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    shape = (TensorProto.DOUBLE, [None, 2])
    path = drawn(tmp_path, [node], shape, ("y", *shape))
    stage = open_stage(StageFiles(path.parent, (path.name,), {}, threads=2))
    options = stage.session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == 2


def test_a_prediction_that_is_the_place_of_a_text_is_answered_as_that_text(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["x"], ["prediction"], to=TensorProto.INT64)
    double = TensorProto.DOUBLE
    shape = ("prediction", TensorProto.INT64, [None, 2])
    path = drawn(tmp_path, [node], (double, [None, 2]), shape)
    stage = open_graph(path, {"labels": ["no", "yes"]})
    alone = stage.predict((0.0, 1.0))["prediction"]
    many = stage.predict(np.array([[0.0, 1.0]] * 100))["prediction"]
    assert column_values(alone).tolist() == [["no", "yes"]]
    assert isinstance(many, Chosen)
    assert many.values.tolist() == [["no", "yes"]] * 100


def test_labels_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    shape = (TensorProto.DOUBLE, [None, 2])
    path = drawn(tmp_path, [node], shape, ("y", *shape))
    with pytest.raises(BadPackage, match="labels"):
        open_graph(path, {"labels": ["no", 1]})
