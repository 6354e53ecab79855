"""Loading a package for a job: a scorer that has the model for itself."""

from __future__ import annotations

from foretell.engine import fleet
from foretell.engine.executors.choosing import ExecutorKind
from foretell.engine.repository import Package
from foretell.transports.batch.job import BatchOptions
from foretell.transports.batch.scoring.answers import Answers
from foretell.transports.batch.scoring.scorer import Scorer, in_blocks

_BLOCK_ROWS = 4096


def scorer_of(package: Package, options: BatchOptions, answers: Answers) -> Scorer:
    """A scorer with a model of its own. Raises BadPackage."""
    loaded = fleet.load(package, kind=ExecutorKind.THREAD)
    predict = loaded.predict
    if package.manifest.steps[-1].runtime == "onnx":
        predict = in_blocks(predict, _BLOCK_ROWS)
    first_only = options.on_bad_row == "fail"
    return Scorer(loaded.signature, predict, answers, first_only=first_only)
