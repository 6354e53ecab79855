"""Products with one-hot columns: the rows of weights they choose are added, none is multiplied."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from foretell.packing.compiling.drawing.graph import Graph, Tensor

CODES = np.array([[0, 2], [1, -1], [-1, 0], [2, 1]])
NUMBERS = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0], [-2.0, 4.0]])


def hot(codes: Any, width: int) -> Any:
    return (codes[:, None] == np.arange(width)).astype(float)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0), (1, 2), (0,)])
def test_it_is_the_product_of_the_columns_side_by_side(
    order: tuple[int, ...], outputs: int
) -> None:
    graph = Graph()
    graph.input("numbers", np.dtype(float), 2)
    graph.input("codes", np.dtype(np.int64), 2)
    codes = Tensor("codes", np.dtype(np.int64), (None, None))
    parts = [
        Tensor("numbers", np.dtype(float), (None, None)),
        graph.hot(graph.pick(codes, [0]).name, 3, np.float64),
        graph.hot(graph.pick(codes, [1]).name, 4, np.float64),
    ]
    columns = [NUMBERS, hot(CODES[:, 0], 3), hot(CODES[:, 1], 4)]
    chosen = [parts[place] for place in order]
    whole = graph.join([graph.join(chosen[:2]), *chosen[2:]])
    wide = np.hstack([columns[place] for place in order])
    weights = np.random.default_rng(1).normal(size=(wide.shape[1], outputs))
    graph.output("out", graph.product(whole.name, weights), np.dtype(float), [outputs])
    body = graph.to_bytes()
    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    feed = {"numbers": NUMBERS, "codes": CODES}
    (got,) = session.run(None, {name: value for name, value in feed.items() if name in taken})
    np.testing.assert_allclose(got, wide @ weights, rtol=1e-14)
    kinds = {node.op_type for node in onnx.load_from_string(body).graph.node}
    assert "Equal" not in kinds, "the one-hot columns themselves are never made"
