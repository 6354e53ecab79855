"""The outputs of a model, read off its own answers: a field for each, labels for its classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from foretell.core.datatype import Datatype
from foretell.core.described import is_printable
from foretell.core.field import Array, Field
from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes.stages import Labels


def output_fields(answers: Mapping[str, Array], n_rows: int, file: str) -> tuple[Field, ...]:
    """One field for each of `answers` to `n_rows` rows. Raises BadPackage."""
    if not answers:
        raise BadPackage(f"{file} answers nothing")
    return tuple(_field(name, answer, n_rows, file) for name, answer in answers.items())


def _field(name: str, answer: Array, n_rows: int, file: str) -> Field:
    if not name or not is_printable(name):
        raise BadPackage(f"{file} answers with {name!r}, which cannot be the name of an output")
    if answer.ndim < 1 or len(answer) != n_rows:
        raise BadPackage(
            f"{file} answers {n_rows} rows with {name!r} of shape {answer.shape}; "
            "the first size must be the number of rows"
        )
    if answer.dtype.kind == "O" and not all(isinstance(value, str) for value in answer.flat):
        raise BadPackage(f"{file} answers with {name!r} of mixed or unknown Python objects")
    try:
        datatype = Datatype.of(answer.dtype)
    except ValueError as error:
        raise BadPackage(f"{file} answers {name!r} in {answer.dtype}, which cannot be sent") from (
            error
        )
    return Field(name, datatype, shape=answer.shape[1:])


def onnx_labels(path: Path) -> Labels | None:
    """The class labels in an ONNX graph: of its classifier, its ZipMap or its label lookup."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("install foretell[pack] to look into ONNX files") from error
    graph = onnx.load(path).graph
    for node in reversed(graph.node):
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels_"):
                if attribute.strings:
                    return tuple(label.decode() for label in attribute.strings)
                if attribute.ints:
                    return tuple(attribute.ints)
    for constant in graph.initializer:
        if constant.name.startswith("classes"):
            labels = onnx.numpy_helper.to_array(constant).ravel().tolist()
            return tuple(part.decode() if isinstance(part, bytes) else part for part in labels)
    return None
