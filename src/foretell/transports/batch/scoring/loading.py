"""Loading a package for a job: a scorer that has the model for itself."""

from __future__ import annotations

from foretell.core.batch import Batch
from foretell.engine import fleet
from foretell.engine.executors import Predict
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


def bulk_of(package: Package, batch_rows: int) -> Predict | None:
    """The package's bulk form, where it is the faster one for pieces of so many rows."""
    if package.manifest.bulk is None:
        return None
    loaded = fleet.load(package, kind=ExecutorKind.THREAD)
    in_bulk = loaded.for_bulk(batch_rows)
    return None if in_bulk is loaded else in_bulk.predict


def needs_processes(package: Package) -> bool:
    """Whether threads would take turns at the model, so that it wants a process for each."""
    example = package.manifest.signature.example
    if is_graph(package) or example is None:
        return False
    loaded = fleet.load(package, kind=ExecutorKind.THREAD)
    return needs_process(loaded.predict, Batch.from_rows(loaded.signature.inputs, [example]))


def scorer_of(
    package: Package,
    options: BatchOptions,
    answers: Answers,
    *,
    bulk: bool,
    loaded_bulk: Predict | None = None,
    apart: bool = False,
) -> Scorer:
    """A scorer with a model of its own, in its `bulk` form or not, or in a process `apart`.

    `loaded_bulk` is a bulk form that is loaded already. A job takes one form for all its rows:
    their last bits may differ. Raises BadPackage, MissingExtra.
    """
    signature, first_only = package.manifest.signature, options.on_bad_row == "fail"
    if bulk:
        predict = loaded_bulk or fleet.load_bulk(package)
        return Scorer(signature, predict, answers, first_only=first_only)
    loaded = fleet.load(package, kind=ExecutorKind.PROCESS if apart else ExecutorKind.THREAD)
    predict = in_blocks(loaded.predict, _BLOCK_ROWS) if is_graph(package) else loaded.predict

    def close() -> None:
        loaded.executor.close()
        if isinstance(loaded.executor, ThreadExecutor):  # its process ends before the job does
            loaded.executor.join()

    return Scorer(signature, predict, answers, first_only=first_only, close=close)
