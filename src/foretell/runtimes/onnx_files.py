"""An ONNX file: a graph whose tensors are the fields.

Inputs, by their declared shapes:

- one numeric input [N, k]   k scalar fields x0, x1, … (a sample's header may name them)
- inputs [N] and [N, 1]      a scalar field each, as skl2onnx makes of DataFrame columns
- inputs [N, a, b, …]        a field of shape (a, b, …)

Outputs: a label and its probabilities (a tensor, or skl2onnx's list of maps) are `prediction`
and `probability`; one output [N] or [N, 1] is `prediction`; all else keeps its name. A column
[N, 1] is a scalar unless the step's option `columns` names it. With the option `labels`,
`prediction` is the place of a text in that list, which is answered. A graph for exactly one row
([1, k]) runs row by row; any other fixed number of rows is refused.

The graph is read from memory, so one that keeps its weights in other files is refused: what is
not listed in a package is not read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.batch import FEW_ROWS, Batch, Chosen
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes.coding import coded
from foretell.runtimes.onnx_row import Bound, BoundRow, bound_row
from foretell.runtimes.stages import Known, StageFiles, plain
from foretell.runtimes.tables import Table, Tabulate

_DATATYPES = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(double)": Datatype.FP64,
    "tensor(float)": Datatype.FP32,
    "tensor(float16)": Datatype.FP16,
    "tensor(string)": Datatype.BYTES,
    **{
        f"tensor({sign}int{bits})": Datatype(f"{sign.upper()}INT{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}

_SILENT = 4
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""ONNX Runtime raises what it would write to stderr, in the midst of somebody's log."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One input or output of a graph: `sizes` are those of a row, -1 where any will do."""

    name: str
    kind: str
    sizes: tuple[int, ...]
    rows: int | None


def open_stage(files: StageFiles) -> OnnxStage:
    """The graph in one file. Raises BadPackage and MissingExtra."""
    return open_graph(files.only, files.options, threads=files.threads)


def open_graph(
    path: Path, options: Mapping[str, Any], *, threads: int = 1, bound: bool = True
) -> OnnxStage:
    """The graph in the file `path`, one row of it `bound` to memory of its own where that can be.

    Raises BadPackage and MissingExtra.
    """
    # It tells its maker of machines and models; the variable is read when it is loaded.
    os.putenv(_NO_TELEMETRY, "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(f"install onnxruntime to read {path.name}") from error
    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _SILENT
    # threads that wait for the next call by spinning take a core each for what they may save
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        said = str(error).strip().splitlines()[0]
        raise BadPackage(f"{path.name} is not a readable ONNX model: {said}") from error
    columns = options.get("columns", ())
    if not isinstance(columns, list | tuple):
        raise BadPackage(f"a step's options name no list of columns: {columns!r}")
    run_options = onnxruntime.RunOptions()
    run_options.log_severity_level = _SILENT
    labels = options.get("labels", ())
    if not isinstance(labels, list | tuple) or not all(isinstance(one, str) for one in labels):
        raise BadPackage(f"a step's options have labels that are no texts: {str(labels)[:60]}")
    outputs = _Outputs(frozenset(map(str, columns)), tuple(labels))
    return OnnxStage(session, path.name, run_options, outputs, bound=bound)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """How outputs become answers: those in `columns` stay [N, 1]; texts by their places."""

    columns: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()


class OnnxStage:
    """A session, and the fields of its tensors."""

    def __init__(
        self,
        session: Any,
        file: str,
        run_options: Any,
        outputs: _Outputs,
        *,
        bound: bool = True,
    ) -> None:
        self.file = file
        self.session = session
        self.inputs = tuple(_tensor(part, file) for part in session.get_inputs())
        self.outputs = tuple(_tensor(part, file) for part in session.get_outputs())
        self._names = [part.name for part in self.outputs]
        fixed = {part.rows for part in self.inputs if part.rows is not None}
        if fixed - {1}:
            raise BadPackage(
                f"{file} takes exactly {max(fixed)} rows at a time; export it with a first "
                "dimension of any size"
            )
        self._row_by_row = bool(fixed)
        self._flat = [
            (name, flat and part.name not in outputs.columns)
            for part, (name, flat) in zip(self.outputs, _answer_names(self.outputs), strict=True)
        ]
        self._answers = [
            (name, _answering(part, flat=flat))
            for part, (name, flat) in zip(self.outputs, self._flat, strict=True)
        ]
        self._labels = np.array(outputs.labels, dtype=object) if outputs.labels else None
        self._options = run_options  # making its default anew costs each call
        self._row = self._bound() if bound and not self._row_by_row else None
        self.known = Known(fields=self._fields())

    def _bound(self) -> BoundRow | None:
        numbers = [*self.inputs, *self.outputs]
        if not self._is_matrix or not all(_is_fixed_number(part) for part in numbers):
            return None
        named = [("", False), *self._flat]
        tensors = [
            Bound(part.name, _DATATYPES[part.kind].numpy, part.sizes, *answer)
            for part, answer in zip(numbers, named, strict=True)
        ]
        return bound_row(self.session, tensors[0], tensors[1:], self._options)

    def _fields(self) -> tuple[Field, ...]:
        if self._is_matrix:
            (only,) = self.inputs
            datatype = _DATATYPES[only.kind]
            return tuple(Field(f"x{place}", datatype) for place in range(only.sizes[0]))
        return tuple(
            Field(part.name, _DATATYPES[part.kind], shape=() if part.sizes == (1,) else part.sizes)
            for part in self.inputs
        )

    @property
    def is_bound(self) -> bool:
        """Whether one row alone is answered in memory of its own; see `onnx_row`."""
        return self._row is not None

    @property
    def _is_matrix(self) -> bool:
        first = self.inputs[0]
        if len(self.inputs) != 1 or len(first.sizes) != 1:
            return False
        return first.sizes[0] > 1 or (first.sizes[0] == 1 and first.kind != "tensor(string)")

    def tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        """The tensors to feed, by name; of a bound graph, one row alone is fed as it is."""
        tabulate = self._tabulator(inputs, options)
        if self._row is None or not all(field.datatype.is_numeric for field in inputs):
            return tabulate
        return lambda batch: batch.rows[0] if batch.n_rows == 1 else tabulate(batch)

    def _tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        tabulate = laid_out(inputs, options)
        if tabulate is not None:
            return tabulate
        if self._is_matrix:
            name, datatype = self.inputs[0].name, inputs[0].datatype
            if not datatype.is_numeric:
                return lambda batch: {name: np.column_stack(batch.columns)}
            return lambda batch: {name: batch.matrix}

        def tensors(batch: Batch) -> Table:
            return {
                part.name: column.reshape(-1, 1) if part.sizes == (1,) else column
                for part, column in zip(self.inputs, batch.columns, strict=True)
            }

        return tensors

    def transform(self, table: Table) -> Table:
        """Raises BadPackage: a graph only predicts."""
        raise BadPackage(f"{self.file} predicts, so it must be the last file")

    def predict(self, table: Table) -> Mapping[str, Array | Chosen]:
        """The graph's outputs under the names of answers."""
        answers = self._numbers(table)
        if self._labels is None:
            return answers
        places = answers["prediction"]
        chosen = Chosen(self._labels, places)
        return {**answers, "prediction": chosen.values if len(places) <= FEW_ROWS else chosen}

    def _numbers(self, table: Table) -> Mapping[str, Array]:
        if type(table) is tuple and self._row is not None:
            answers = self._row.answer(table)
            if answers is not None:
                return answers
            table = np.array([table])
        feed = table if isinstance(table, dict) else self._feed(table)
        if self._row_by_row:
            n_rows = len(next(iter(feed.values())))
            cut = [{name: part[i : i + 1] for name, part in feed.items()} for i in range(n_rows)]
            rows = [self.session.run(self._names, one, self._options) for one in cut]
            found = [
                np.concatenate([_tensor_of(x) for x in part]) for part in zip(*rows, strict=True)
            ]
        else:
            found = self.session.run(self._names, feed, self._options)
        return {
            name: answer(value) for (name, answer), value in zip(self._answers, found, strict=True)
        }

    def _feed(self, table: Table) -> dict[str, Array]:
        """What the step before made, as this graph's only input."""
        if len(self.inputs) != 1:
            raise BadPackage(f"{self.file} takes {len(self.inputs)} inputs, so it must come first")
        only = self.inputs[0]
        return {only.name: np.asarray(table).astype(_DATATYPES[only.kind].numpy, copy=False)}


def laid_out(inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate | None:
    """The tensors of a graph whose step names its `layout`; None where it names none.

    Raises BadPackage.
    """
    match options.get("layout"):
        case None:
            return None
        case "coded":
            return coded(inputs, _words(options.get("words"), inputs))
        case other:
            raise BadPackage(
                f"a graph's layout is {other!r}, which nobody knows: pack the model anew"
            )


def _words(told: Any, inputs: tuple[Field, ...]) -> list[list[str]]:
    """The texts a graph knows, by column of texts. Raises BadPackage."""
    columns = [field for field in inputs if field.datatype is Datatype.BYTES]
    if not isinstance(told, list | tuple) or len(told) != len(columns):
        raise BadPackage("a step's options have no list of words for each input of texts")
    for words in told:
        if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
            raise BadPackage(f"a step's options have words that are no texts: {str(words)[:60]}")
    return [list(words) for words in told]


def _tensor(part: Any, file: str) -> _Tensor:
    kind, shape = str(part.type), part.shape
    if kind.startswith("seq(map("):
        return _Tensor(part.name, kind, (-1,), None)
    if kind not in _DATATYPES:
        raise BadPackage(f"{file} has a tensor {part.name!r} of {kind}, which cannot be sent")
    if not shape:
        return _Tensor(part.name, kind, (), None)
    sizes = tuple(size if isinstance(size, int) and size > 0 else -1 for size in shape)
    return _Tensor(part.name, kind, sizes[1:], sizes[0] if sizes[0] > 0 else None)


def _answer_names(outputs: tuple[_Tensor, ...]) -> list[tuple[str, bool]]:
    """A name for each output, and whether its rows of one number become scalars."""
    flat = [part.sizes in ((), (1,)) for part in outputs]
    if len(outputs) == 1 and flat[0]:
        return [("prediction", True)]
    if len(outputs) == 2 and flat[0] and outputs[0].kind in ("tensor(int64)", "tensor(string)"):
        second = outputs[1]
        if second.kind.startswith("seq(map(") or (len(second.sizes) == 1 and not flat[1]):
            return [("prediction", True), ("probability", False)]
        return [("prediction", True), (second.name, flat[1])]
    return [(part.name, one) for part, one in zip(outputs, flat, strict=True)]


def _tensor_of(value: Any) -> Array:
    if isinstance(value, list):
        return np.array([list(row.values()) for row in value], dtype=np.float32)
    return np.asarray(value)


def _is_fixed_number(part: _Tensor) -> bool:
    """Whether one row of it always is as many numbers, so that memory can be kept for them."""
    return part.kind in _DATATYPES and part.kind != "tensor(string)" and -1 not in part.sizes


def _answering(part: _Tensor, *, flat: bool) -> Callable[[Any], Array]:
    """What makes an answer of this output: nothing, where it is a tensor of numbers already."""
    if not _is_fixed_number(part):
        return lambda value: _answer(value, flat=flat)
    if flat:
        return lambda value: value.reshape(-1)
    return lambda value: value


def _answer(value: Any, *, flat: bool) -> Array:
    answer = plain(_tensor_of(value))
    return answer.reshape(len(answer)) if flat and answer.ndim == 2 else answer
