"""A candidate is one ONNX graph that may answer as the original does, and how it came about.

In the order in which they are tried:

- `mixed`             the original's own arithmetic, drawn step by step (`chain.py`)
- `converted float64` skl2onnx's, on float64 inputs
- `converted float32` skl2onnx's, on float32 inputs: what everyone ships

skl2onnx gets one dense matrix or the columns one by one; its ZipMap is switched off.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from foretell.core.datatype import Datatype
from foretell.core.signature import Signature
from foretell.errors import MissingExtra
from foretell.packing.compiling.drawing.chain import draw_chain
from foretell.packing.compiling.drawing.graph import (
    IR_VERSION,
    ML,
    Cut,
    Unfaithful,
    onnx_module,
    onnx_type,
)
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.stages import Stage

MIXED = "mixed"
_OPSETS = {"": 18, ML: 3}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model as bytes with the options of its step, or the reason why there is none."""

    name: str
    model: bytes | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    cuts: tuple[Cut, ...] = ()


Build = Callable[[], Candidate]


def builders(
    stages: tuple[Stage, ...], signature: Signature, options: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, Build]]:
    """The names of the candidates and what builds each, in order."""
    yield MIXED, lambda: mixed(stages, signature, options, seed)
    for name, dtype in (("converted float64", np.float64), ("converted float32", np.float32)):
        yield name, partial(converted, name, stages, signature, dtype)


def mixed(
    stages: tuple[Stage, ...], signature: Signature, options: Mapping[str, Any], seed: int
) -> Candidate:
    """The original's own arithmetic. Raises MissingExtra."""
    try:
        graph = draw_chain(stages, signature, options, seed)
        model = graph.to_bytes()
    except Unfaithful as error:
        return Candidate(MIXED, error=str(error))
    except MissingExtra:
        raise
    except Exception as error:  # noqa: BLE001  a private part of another version may be gone
        return Candidate(MIXED, error=_line(error))
    step = _columns(signature)
    if not signature.dense:
        step |= {"layout": "coded", "words": graph.words}
    if graph.labels:
        step |= {"labels": graph.labels}
    return Candidate(MIXED, model, step, cuts=tuple(graph.cuts))


def _columns(signature: Signature) -> dict[str, Any]:
    """The option that keeps outputs [N, 1] as they are: one class's probability, one target."""
    names = [field.name for field in signature.outputs if field.shape == (1,)]
    return {"columns": names} if names else {}


def converted(name: str, stages: tuple[Stage, ...], signature: Signature, dtype: Any) -> Candidate:
    """What skl2onnx makes of scikit-learn's estimators."""
    estimators = [stage.estimator for stage in stages if isinstance(stage, EstimatorStage)]
    if len(estimators) != len(stages):
        return Candidate(name, error="skl2onnx converts scikit-learn's estimators only")
    if any(known.nullable and known.datatype is Datatype.BYTES for known in signature.inputs):
        return Candidate(name, error="ONNX's texts have no missing value")
    if any(known.shape for known in signature.inputs):
        return Candidate(name, error="its inputs are arrays")
    if signature.class_labels is not None and len(signature.class_labels) < 2:
        return Candidate(name, error="it knows one class, for which skl2onnx has no graph")
    try:
        import skl2onnx
    except ImportError:
        return Candidate(name, error="install foretell[compile]: skl2onnx is missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _convert(skl2onnx, estimators, signature, dtype)
            return Candidate(name, model, _columns(signature))
    except Exception as error:  # noqa: BLE001  a converter may raise anything
        return Candidate(name, error=_line(error))


def _convert(skl2onnx: Any, estimators: list[Any], signature: Signature, dtype: Any) -> bytes:
    from skl2onnx.common import data_types as kinds
    from sklearn.base import is_classifier
    from sklearn.pipeline import Pipeline

    last = estimators[-1]
    whole = last
    if len(estimators) > 1:
        whole = Pipeline([(f"step{place}", part) for place, part in enumerate(estimators)])
    number = kinds.DoubleTensorType if dtype == np.float64 else kinds.FloatTensorType

    def kind(datatype: Datatype) -> Any:
        if datatype is Datatype.BYTES:
            return kinds.StringTensorType([None, 1])
        if datatype.is_integer or datatype is Datatype.BOOL:
            return kinds.Int64TensorType([None, 1])
        return number([None, 1])

    if signature.dense is not None:
        inputs = [("numbers", number([None, len(signature.inputs)]))]
    else:
        inputs = [(known.name, kind(known.datatype)) for known in signature.inputs]
    options = {id(last): {"zipmap": False}} if is_classifier(last) else None
    model = skl2onnx.convert_sklearn(
        whole, initial_types=inputs, options=options, target_opset=_OPSETS
    )
    return _adapted(model, signature)


def _adapted(model: Any, signature: Signature) -> bytes:
    """`model` with the signature's datatypes at its inputs and its names at its outputs."""
    onnx = onnx_module()
    helper, graph = onnx.helper, model.graph
    datatypes = {known.name: known.datatype for known in signature.inputs}
    front, inputs = [], []
    for tensor in graph.input:
        kind = tensor.type.tensor_type
        wanted = onnx_type((signature.dense or datatypes.get(tensor.name, Datatype.FP64)).numpy)
        if kind.elem_type == wanted:
            inputs.append(tensor)
            continue
        outer = f"raw {tensor.name}"
        front.append(helper.make_node("Cast", [outer], [tensor.name], to=kind.elem_type))
        width = [size.dim_value or None for size in kind.shape.dim]
        inputs.append(helper.make_tensor_value_info(outer, wanted, width))
    back, outputs = [], []
    for field_, tensor in zip(signature.outputs, _matched(graph, signature), strict=True):
        wanted = onnx_type(field_.datatype.numpy)
        flat = f"{field_.name} shaped"
        shape = helper.make_tensor(f"{flat} sizes", onnx.TensorProto.INT64,
                                   [1 + len(field_.shape)], [-1, *field_.shape])  # fmt: skip
        graph.initializer.append(shape)
        back.append(helper.make_node("Reshape", [tensor.name, shape.name], [flat]))
        back.append(helper.make_node("Cast", [flat], [field_.name], to=wanted))
        outputs.append(helper.make_tensor_value_info(field_.name, wanted, [None, *field_.shape]))
    nodes = [*front, *graph.node, *back]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    model.ir_version = min(model.ir_version, IR_VERSION)
    return bytes(model.SerializeToString())


def _matched(graph: Any, signature: Signature) -> list[Any]:
    """The graph's outputs in the order of the signature's: the label first, then numbers."""
    found = list(graph.output)
    if len(found) < len(signature.outputs):
        raise Unfaithful(f"it has {len(found)} outputs for {len(signature.outputs)}")
    return found[: len(signature.outputs)]


_NODE_S, _ISOLATION_TREE_S = 50e-6, 0.1


def converting_s(estimators: Iterable[Any]) -> float:
    """About how many seconds skl2onnx takes for `estimators`: it goes by the nodes of their trees.

    Each tree of an isolation forest becomes operators of its own, which costs more.
    """
    left, seen, found = list(estimators), set[int](), 0.0
    while left:
        part = left.pop()
        kind = type(part)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if kind.__module__ == "sklearn.tree._tree" and kind.__name__ == "Tree":
            found += _NODE_S * int(part.node_count)
        elif isinstance(part, np.ndarray):
            left += part.ravel().tolist() if part.dtype == object else []
        elif isinstance(part, list | tuple):
            left += part
        elif isinstance(part, dict):
            left += part.values()
        elif kind.__module__.startswith("sklearn."):
            if kind.__name__ == "IsolationForest":
                found += _ISOLATION_TREE_S * len(part.estimators_)
            left += getattr(part, "__dict__", {}).values()
    return found


def _line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    unknown = re.search(r"shape calculator for type '<class '[\w.]*?(\w+)'>'", str(error))
    if unknown:
        return f"skl2onnx does not know {unknown.group(1)}"
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
