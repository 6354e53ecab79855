"""A chain is the stages of a package drawn as one graph, with the signature's own outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from foretell.core.signature import Signature
from foretell.packing.compiling.drawing import boosters
from foretell.packing.compiling.drawing.drawn import Drawn
from foretell.packing.compiling.drawing.graph import Graph, Unfaithful
from foretell.packing.compiling.drawing.models import draw
from foretell.packing.compiling.drawing.sheet import first_sheet
from foretell.packing.compiling.drawing.steps import draw_step
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.lightgbm_files import LightGBMStage
from foretell.runtimes.stages import Stage
from foretell.runtimes.tables import TableForm
from foretell.runtimes.xgboost_files import XGBoostStage


def draw_chain(
    stages: tuple[Stage, ...], signature: Signature, options: Mapping[str, Any], seed: int = 0
) -> Graph:
    """The graph of `stages`; `options` are the first step's. Raises Unfaithful."""
    graph = Graph(seed)
    sheet = first_sheet(graph, signature, TableForm.of(options))
    *front, last = stages
    for stage in front:
        if not isinstance(stage, EstimatorStage):
            raise Unfaithful("a step in front is no scikit-learn transformer")
        sheet = draw_step(graph, stage.estimator, sheet)
    if isinstance(last, EstimatorStage):
        drawn = draw(graph, last.estimator, sheet)
    elif isinstance(last, LightGBMStage):
        drawn = boosters.lightgbm_file(graph, last, sheet)
    elif isinstance(last, XGBoostStage):
        drawn = boosters.xgboost_file(graph, last, sheet)
    else:
        raise Unfaithful("its runtime runs code, or a graph already")
    _answer(graph, drawn, signature)
    return graph


def _answer(graph: Graph, drawn: Drawn, signature: Signature) -> None:
    """Declare the outputs `signature` names. Raises Unfaithful when one was not drawn."""
    for field in signature.outputs:
        dtype = field.datatype.numpy
        match field.name:
            case "prediction":
                _prediction(graph, drawn, dtype, field.shape)
            case "probability" if drawn.probability is not None:
                _numbers(graph, field.name, drawn.probability, dtype, field.shape)
            case "score" if drawn.score is not None:
                _numbers(graph, field.name, drawn.score, dtype, field.shape)
            case name:
                raise Unfaithful(f"its output {name!r} is not drawn")


def _numbers(graph: Graph, output: str, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
    if dtype != np.float64:  # casting to what it is already is taken out by ONNX Runtime
        name = graph.cast_name(name, dtype)
    graph.output(output, name, dtype, shape)


def _prediction(graph: Graph, drawn: Drawn, dtype: Any, shape: tuple[int, ...]) -> None:
    name, made = drawn.prediction, np.dtype(drawn.dtype)
    if drawn.classes is not None:
        labels = np.asarray(drawn.classes)
        made = np.dtype(np.int64)
        if labels.dtype.kind in "UO":
            if not all(isinstance(label, str) for label in labels.tolist()):
                raise Unfaithful("its class labels are of several kinds")
            graph.labels = labels.tolist()
        elif not np.array_equal(labels, np.arange(len(labels))) or dtype != made:
            made = dtype
            name = graph.op("Gather", graph.constant(labels.astype(dtype)), name, axis=0)
    elif made != dtype:
        name, made = graph.cast_name(name, dtype), dtype
    graph.output("prediction", name, made, shape)
