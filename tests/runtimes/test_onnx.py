"""An ONNX file answers what ONNX Runtime answers, under the names that people expect."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.errors import BadPackage
from foretell.packing import pack
from tests import models


def run(path: Path, feed: dict[str, Any]) -> list[Any]:
    return onnxruntime.InferenceSession(path).run(None, feed)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def tree() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    frame, y = models.numbers()
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(frame.to_numpy(), labels)


@pytest.mark.parametrize("zipmap", [True, False])
def test_a_classifier_gives_its_label_and_probabilities(
    zipmap: bool, tree: Any, tmp_path: Path
) -> None:
    frame, _ = models.numbers()
    graph = to_onnx(tree, frame.to_numpy(np.float32)[:1], options={"zipmap": zipmap})
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    folder = models.packed(tmp_path, [path], frame)
    signature = models.manifest_of(folder).signature
    assert signature.class_labels == ("setosa", "versicolor", "virginica")
    assert [(f.name, f.datatype) for f in signature.inputs] == [
        (name, Datatype.FP32) for name in frame.columns
    ]
    answers = models.answered(models.opened(folder), frame)
    labels, rows = run(path, {"X": frame.to_numpy(np.float32)})
    assert answers["prediction"].tolist() == list(labels)
    expected = [list(row.values()) for row in rows] if zipmap else rows
    models.assert_same(answers["probability"], np.array(expected, dtype=np.float32))


def test_a_regressor_gives_one_number_a_row(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    frame, y = models.numbers()
    matrix = frame.to_numpy(np.float32)
    path = tmp_path / "model.onnx"
    graph = to_onnx(LinearRegression().fit(matrix, y), matrix[:1])
    path.write_bytes(graph.SerializeToString())
    folder = models.packed(tmp_path, [path])
    assert models.manifest_of(folder).signature.input_names == ("x0", "x1", "x2", "x3")
    answers = models.answered(
        models.opened(folder), frame.set_axis(["x0", "x1", "x2", "x3"], axis=1)
    )
    models.assert_same(answers["prediction"], run(path, {"X": matrix})[0].ravel())


def test_columns_of_texts_and_numbers_are_a_field_each(tmp_path: Path) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame, y = models.churn()
    frame = frame[["total_charges", "senior_citizen", "internet_service"]].dropna()
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["total_charges", "senior_citizen"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["internet_service"]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, y[frame.index])
    kinds = [
        ("total_charges", FloatTensorType([None, 1])),
        ("senior_citizen", Int64TensorType([None, 1])),
        ("internet_service", StringTensorType([None, 1])),
    ]
    graph = to_onnx(model, initial_types=kinds, options={"zipmap": False})
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    folder = models.packed(tmp_path, [path], frame)
    signature = models.manifest_of(folder).signature
    assert [f.datatype for f in signature.inputs] == [
        Datatype.FP32,
        Datatype.INT64,
        Datatype.BYTES,
    ]
    answers = models.answered(models.opened(folder), frame)
    feed = {
        "total_charges": frame[["total_charges"]].to_numpy(np.float32),
        "senior_citizen": frame[["senior_citizen"]].to_numpy(np.int64),
        "internet_service": frame[["internet_service"]].to_numpy(object),
    }
    labels, rows = run(path, feed)
    assert answers["prediction"].tolist() == list(labels)
    models.assert_same(answers["probability"], rows)


def graph_of(path: Path, inputs: list[Any], outputs: list[Any], nodes: list[Any]) -> Path:
    two = numpy_helper.from_array(np.array(2.0, np.float32), "two")
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def doubling(path: Path, shape: list[Any]) -> Path:
    return graph_of(
        path,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("twice", TensorProto.FLOAT, shape)],
        [helper.make_node("Mul", ["image", "two"], ["twice"])],
    )


def test_a_tensor_is_a_shaped_field_and_keeps_its_name(tmp_path: Path) -> None:
    folder = pack([doubling(tmp_path / "m.onnx", ["N", 2, 3])], repository=tmp_path / "r")
    servable = models.opened(folder)
    (image,) = servable.signature.inputs
    assert (image.name, image.shape) == ("image", (2, 3))
    from foretell.core.batch import Batch

    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    answers = servable.predict(Batch.from_columns(servable.signature.inputs, [rows]))
    models.assert_same(answers.column("twice"), rows * 2)


def test_truths_of_one_tensor_are_answered_alone_and_together(tmp_path: Path) -> None:
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.BOOL, [None, 2]) for name in ("x", "y")
    )
    nodes = [helper.make_node("Not", ["x"], ["y"])]
    path = graph_of(tmp_path / "not.onnx", [given], [made], nodes)
    servable = models.opened(models.packed(tmp_path, [path]))
    inputs = servable.signature.inputs
    for rows in ([(True, False)], [(True, False), (False, False)]):
        (answers,) = servable.predict(Batch.from_rows(inputs, rows)).columns
        assert answers.tolist() == [[not value for value in row] for row in rows]


def test_a_graph_for_one_row_answers_many_one_by_one(tmp_path: Path) -> None:
    folder = pack([doubling(tmp_path / "m.onnx", [1, 3])], repository=tmp_path / "r")
    frame = models.numbers()[0].iloc[:5, :3].set_axis(["x0", "x1", "x2"], axis=1)
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["twice"], frame.to_numpy(np.float32) * 2)


def test_a_graph_for_eight_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="exactly 8 rows"):
        pack([doubling(tmp_path / "m.onnx", [8, 3])], repository=tmp_path / "r")


def test_a_scaler_in_front_of_a_graph_feeds_it(tree: Any, tmp_path: Path) -> None:
    from sklearn.preprocessing import MinMaxScaler

    frame, _ = models.numbers()
    scaler = MinMaxScaler().fit(frame)
    path = tmp_path / "model.onnx"
    graph = to_onnx(tree, frame.to_numpy(np.float32)[:1], options={"zipmap": False})
    path.write_bytes(graph.SerializeToString())
    files = [models.saved(scaler, tmp_path / "scaler.pkl"), path]
    answers = models.answered(models.opened(models.packed(tmp_path, files)), frame)
    labels, rows = run(path, {"X": scaler.transform(frame).astype(np.float32)})
    assert answers["prediction"].tolist() == list(labels)
    models.assert_same(answers["probability"], rows)


_TELLING = """
import ctypes, sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from foretell.runtimes.onnx_files import open_graph

seen: list[Any] = []
getenv = ctypes.CDLL(None).getenv  # as a library in C reads it
getenv.restype = ctypes.c_char_p

class Finder:
    def find_spec(self, name: str, *_: Any) -> None:
        if name == "onnxruntime":
            seen.append(getenv(b"ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Finder())
open_graph(Path(sys.argv[1]), {})
sockets = psutil.Process().net_connections(kind="all")
print(seen, [one for one in sockets if one.raddr])
"""


@pytest.mark.slow
def test_the_runtime_tells_nobody_of_what_it_runs(tree: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    graph = to_onnx(tree, np.zeros((1, tree.n_features_in_), np.float32))
    path.write_bytes(graph.SerializeToString())
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    told = subprocess.run(
        [sys.executable, "-c", _TELLING, path],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "[b'1'] []"
