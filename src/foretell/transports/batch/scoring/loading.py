"""Loading a package for a job: a scorer that has the model for itself."""

from __future__ import annotations

from foretell.engine import fleet
from foretell.engine.executors.choosing import ExecutorKind
from foretell.engine.repository import Package
from foretell.transports.batch.job import BatchOptions
from foretell.transports.batch.scoring.answers import Answers
from foretell.transports.batch.scoring.scorer import Scorer, in_blocks

_BLOCK_ROWS = 8192


def takes_bulk(package: Package, batch_rows: int) -> bool:
    """Whether the package's bulk form is the faster one for pieces of so many rows."""
    if package.manifest.bulk is None:
        return False
    loaded = fleet.load(package, kind=ExecutorKind.THREAD)
    return loaded.for_bulk(batch_rows) is not loaded


def scorer_of(package: Package, options: BatchOptions, answers: Answers, *, bulk: bool) -> Scorer:
    """A scorer with a model of its own, in its `bulk` form or not. Raises BadPackage, MissingExtra.

    A job takes one form for all its rows: their last bits may differ.
    """
    loaded = fleet.load(package, kind=ExecutorKind.THREAD)
    predict = loaded.predict
    if bulk:
        predict = loaded.in_bulk().predict
    elif package.manifest.steps[-1].runtime == "onnx":
        predict = in_blocks(predict, _BLOCK_ROWS)
    first_only = options.on_bad_row == "fail"
    return Scorer(loaded.signature, predict, answers, first_only=first_only)
