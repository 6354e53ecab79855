"""Loading a package for a job: a scorer that has the model for itself."""

from __future__ import annotations

from foretell.core.batch import Batch
from foretell.engine import fleet
from foretell.engine.executors.choosing import ExecutorKind, needs_process
from foretell.engine.executors.thread import ThreadExecutor
from foretell.engine.repository import Package
from foretell.transports.batch.job import BatchOptions
from foretell.transports.batch.scoring.answers import Answers
from foretell.transports.batch.scoring.scorer import Scorer, in_blocks

_BLOCK_ROWS = 8192


def is_graph(package: Package) -> bool:
    """Whether a graph answers, of which it is known what it makes of rows, block by block."""
    return package.manifest.steps[-1].runtime == "onnx"


def takes_bulk(package: Package, batch_rows: int) -> bool:
    """Whether the package's bulk form is the faster one for pieces of so many rows."""
    if package.manifest.bulk is None:
        return False
    loaded = fleet.load(package, kind=ExecutorKind.THREAD)
    return loaded.for_bulk(batch_rows) is not loaded


def needs_processes(package: Package) -> bool:
    """Whether threads would take turns at the model, so that it wants a process for each."""
    example = package.manifest.signature.example
    if is_graph(package) or example is None:
        return False
    loaded = fleet.load(package, kind=ExecutorKind.THREAD)
    return needs_process(loaded.predict, Batch.from_rows(loaded.signature.inputs, [example]))


def scorer_of(
    package: Package, options: BatchOptions, answers: Answers, *, bulk: bool, apart: bool = False
) -> Scorer:
    """A scorer with a model of its own, in its `bulk` form or not, or in a process `apart`.

    A job takes one form for all its rows: their last bits may differ. Raises BadPackage,
    MissingExtra.
    """
    loaded = fleet.load(package, kind=ExecutorKind.PROCESS if apart else ExecutorKind.THREAD)
    predict = loaded.predict
    if bulk:
        predict = loaded.in_bulk().predict
    elif is_graph(package):
        predict = in_blocks(predict, _BLOCK_ROWS)
    first_only = options.on_bad_row == "fail"

    def close() -> None:
        loaded.executor.close()
        if isinstance(loaded.executor, ThreadExecutor):  # its process ends before the job does
            loaded.executor.join()

    return Scorer(loaded.signature, predict, answers, first_only=first_only, close=close)
