"""A stage is one step of a loaded package: it transforms a table, or predicts from one.

Rules:

1. The first stage decides what a batch becomes (`tabulator`); each hands its table on as it is.
2. `predict` answers named arrays of n rows: `prediction`, and what else the model gives.
3. What a stage knows of its inputs and classes it tells; the packer infers the rest.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from foretell.core.batch import Batch, Chosen
from foretell.core.field import Array, Field, Scalar
from foretell.core.signature import Signature
from foretell.errors import BadPackage
from foretell.runtimes.tables import Table, Tabulate

Labels = tuple[Scalar, ...] | tuple[tuple[Scalar, ...], ...]


@dataclass(frozen=True, slots=True)
class StageFiles:
    """What a stage is opened from: `names` are its artifacts, relative to `folder`."""

    folder: Path
    names: tuple[str, ...]
    options: Mapping[str, Any]
    trusted: bool = False
    threads: int = 1
    unproven: bool = False
    """Nobody has opened these files before: a reader that may crash tries them elsewhere first."""

    @property
    def only(self) -> Path:
        """The one file of a stage that has one. Raises BadPackage."""
        if len(self.names) != 1:
            raise BadPackage(f"a step needs one file, but lists {len(self.names)}")
        return self.folder / self.names[0]


@dataclass(frozen=True, slots=True)
class Known:
    """What a stage knows of itself: None where its file does not say."""

    names: tuple[str, ...] | None = None
    n_features: int | None = None
    class_labels: Labels | None = None
    fields: tuple[Field, ...] | None = None
    signature: Signature | None = None


class Stage(Protocol):
    """What a runtime makes of one step."""

    @property
    def known(self) -> Known:
        """What its file says of inputs and classes."""
        ...

    def tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        """How a batch of `inputs` becomes what this stage takes, when it comes first."""
        ...

    def transform(self, table: Table) -> Table:
        """The table for the next stage. Raises BadPackage when it only predicts."""
        ...

    def predict(self, table: Table) -> Mapping[str, Array | Chosen]:
        """The answers by name. Raises BadPackage when it only transforms."""
        ...


def answering(
    stages: tuple[Stage, ...], inputs: tuple[Field, ...], options: Mapping[str, Any]
) -> Callable[[Batch], Mapping[str, Array | Chosen]]:
    """The function from batches of `inputs` to the last stage's answers."""
    tabulate = stages[0].tabulator(inputs, options)
    front = tuple(stage.transform for stage in stages[:-1])
    last = stages[-1].predict
    if not front:
        return lambda batch: last(tabulate(batch))

    def answer(batch: Batch) -> Mapping[str, Array | Chosen]:
        table = tabulate(batch)
        for transform in front:
            table = transform(table)
        return last(table)

    return answer


def try_apart(files: StageFiles, maker: str, library: str, program: str) -> None:
    """Let another process open the one file of `files` when it is unproven.

    XGBoost's and LightGBM's readers end the process on some damaged files. `program` gets the
    path of the shared `library` of their `maker` and that of the file. Raises BadPackage when
    it is killed.
    """
    if not files.unproven:
        return
    command = [sys.executable, "-I", "-S", "-c", program, library, str(files.only)]
    tried = subprocess.run(command, capture_output=True, check=False, timeout=600)  # noqa: S603
    if tried.returncode < 0:
        raise BadPackage(
            f"{files.only.name} is not a readable {maker} model: reading it ends the process "
            f"({signal.Signals(-tried.returncode).name})"
        )


class Chain:
    """The servable of a package: its stages in order."""

    __slots__ = ("_answer", "_names", "signature")

    def __init__(
        self, signature: Signature, stages: tuple[Stage, ...], options: Mapping[str, Any]
    ) -> None:
        self.signature = signature
        self._answer = answering(stages, signature.inputs, options)
        self._names = tuple(field.name for field in signature.outputs)

    def predict(self, batch: Batch) -> Batch:
        """`batch` of `signature.inputs` in; as many rows of `signature.outputs` out."""
        if not batch.n_rows:
            return Batch.from_rows(self.signature.outputs, ())
        answers = self._answer(batch)
        columns = tuple([answers[name] for name in self._names])
        for column in columns:
            # `from_columns` knows choices, and says what is wrong with another number of rows
            if type(column) is not np.ndarray or len(column) != batch.n_rows:
                return Batch.from_columns(self.signature.outputs, columns)
        return Batch(self.signature.outputs, batch.n_rows, None, columns)  # type: ignore[arg-type] # no choices are left


def line_of(error: BaseException) -> str:
    """What somebody's code raised, in one line; the kind where the words do not tell."""
    said = str(error).strip().splitlines()
    if said and isinstance(error, Exception):
        return said[0]
    return f"{type(error).__name__}({said[0] if said else ''})"


def plain(answer: Any) -> Array:
    """A framework's answer as an array of a dtype that a signature has.

    Texts are objects, and so are bytes, read as UTF-8. Raises ValueError for other bytes.
    """
    array = np.asarray(answer)
    kind = array.dtype.kind
    if kind in "UT":
        return array.astype(object)
    if kind == "S":
        return _decoded(array)
    if kind == "O" and array.size and not isinstance(array.flat[0], str):
        if any(isinstance(value, bytes) for value in array.flat):
            return _decoded(array)
        unboxed = np.array(array.tolist())
        return unboxed if unboxed.dtype.kind in "biuf" else array
    return array


def _decoded(array: Array) -> Array:
    texts = np.empty(array.shape, dtype=object)
    for place, value in np.ndenumerate(array):
        texts[place] = _text(value) if isinstance(value, bytes) else value
    return texts


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the bytes {raw[:20]!r} are no UTF-8 text and cannot be sent") from error


def plain_labels(classes: Any) -> Labels:
    """Class labels as plain Python values; one tuple a target for a list of arrays.

    Raises ValueError for bytes that are no UTF-8.
    """
    if isinstance(classes, list) and classes and isinstance(classes[0], np.ndarray):
        return tuple(_plain_labels(part) for part in classes)
    return _plain_labels(np.asarray(classes))


def _plain_labels(classes: Array) -> tuple[Scalar, ...]:
    labels = classes.tolist()
    return tuple(_text(label) if isinstance(label, bytes) else label for label in labels)
