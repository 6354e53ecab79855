"""A compilation is the search for the fastest graph that provably answers as the original does.

Rules:

1. Candidates are tried in the order of `candidates.py`; one that cannot be built, is not
   proven or is not faster is kept in the report with the reason.
2. The first proven candidate that beats the original ends the search (the later ones give up
   precision for nothing: `thorough` tries them all the same). A later one must be a fifth
   faster than an earlier one, because the earlier one is closer to the original's arithmetic.
3. Beating the original means: faster for one row, and not slower than `SLOWER_AT_MOST` times
   for 1,000 rows.
4. The search ends after `LONGEST_S` seconds; what was not tried by then is reported so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import dense_datatype
from foretell.core.servable import Servable
from foretell.core.signature import Signature
from foretell.errors import BadPackage
from foretell.packing.compiling.candidates import MIXED, Candidate, builders
from foretell.packing.compiling.points import points
from foretell.packing.compiling.prove import TOLERANCE, Answers, original_answers, prove
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.lightgbm_files import LightGBMStage
from foretell.runtimes.onnx_files import open_stage
from foretell.runtimes.stages import Chain, Stage, StageFiles
from foretell.runtimes.xgboost_files import XGBoostStage

MODEL = "model.onnx"
SLOWER_AT_MOST = 2.0
LONGEST_S = 20.0
SIZES = (1, 32, 1000)
_LATER_MUST_BE = 1.2
_PER_SIZE_S = 0.12
_MOST_CALLS = 100
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Compiled:
    """The chosen graph with the options of its `onnx` step, or None; and the report."""

    model: bytes | None
    options: Mapping[str, Any]
    report: Mapping[str, Any]


def compile_chain(
    stages: tuple[Stage, ...],
    signature: Signature,
    options: Mapping[str, Any],
    sample: Batch,
    *,
    seed: int = 0,
    thorough: bool = False,
) -> Compiled:
    """Compile `stages` (opened; `options` are the first step's), proven around `sample`.

    `sample` is a batch of `signature.inputs` that the model answers. Raises MissingExtra when
    onnx is not installed; whatever else goes wrong is a reason in the report.
    """
    compilable = (EstimatorStage, LightGBMStage, XGBoostStage)
    if not all(isinstance(stage, compilable) for stage in stages):
        return Compiled(None, {}, refused("it runs code of its own, or is a graph already"))
    original = Chain(signature, stages, options)
    search = _Search(original, sample, seed)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="foretell-compile-") as folder:
        for name, build in builders(stages, signature, options, seed):
            if time.perf_counter() - began > LONGEST_S:
                search.skip(name, f"not tried: {LONGEST_S:.0f} s were over")
            elif search.best is not None and not thorough:
                search.skip(name, f"not tried: {search.best.name} is proven and faster")
            else:
                search.consider(build(), Path(folder))
    return search.result()


def refused(reason: str) -> dict[str, Any]:
    """The report of a model for which nothing was tried."""
    return {"chosen": None, "reason": reason, "candidates": []}


@dataclass(frozen=True, slots=True)
class _Won:
    name: str
    candidate: Candidate
    speed_ups: Mapping[str, float]


class _Search:
    """The candidates seen so far, and the best of them."""

    def __init__(self, original: Servable, sample: Batch, seed: int) -> None:
        self.original = original
        self.sample = sample
        self.seed = seed
        self.best: _Won | None = None
        self.told: list[dict[str, Any]] = []
        self._expected: Answers | None = None
        self._batches = {size: _batches_of(sample, size) for size in SIZES}
        self._times: dict[int, float] = {}

    def skip(self, name: str, reason: str) -> None:
        """Report a candidate that was not built."""
        self.told.append({"name": name, "built": False, "error": reason, "proven": False})

    def consider(self, candidate: Candidate, folder: Path) -> None:
        """Open, prove and time a candidate, and keep it when it is the best so far."""
        if self._expected is None:  # the first candidate knows the thresholds
            around = points(self.sample, candidate.cuts, self.seed)
            self._expected = original_answers(self.original, around)
        if candidate.model is None:
            self.skip(candidate.name, candidate.error or "it was not built")
            return
        told: dict[str, Any] = {"name": candidate.name, "built": True, "error": None}
        self.told.append(told)
        try:
            servable = _opened(candidate, self.original.signature, folder)
        except BadPackage as error:
            told |= {"built": False, "error": error.message[:160], "proven": False}
            return
        proof = prove(servable, self._expected)
        told |= {**proof.describe(), "size": len(candidate.model)}
        if proof.failure is not None:
            told["lost"] = f"not proven: {proof.failure}"
            return
        speed_ups = self._speed_ups(servable)
        told["speed_up"] = speed_ups
        lost = self._lost(speed_ups)
        if lost is not None:
            told["lost"] = lost
            return
        if self.best is not None:
            beaten = next(part for part in self.told if part["name"] == self.best.name)
            beaten["lost"] = f"{candidate.name} is faster"
        self.best = _Won(candidate.name, candidate, speed_ups)

    def _lost(self, speed_ups: Mapping[str, float]) -> str | None:
        if speed_ups["1"] <= 1.0:
            return f"not faster than the original: {speed_ups['1']:.2f} times for one row"
        if speed_ups["1000"] < 1.0 / SLOWER_AT_MOST:
            return (
                f"slower than the original for 1,000 rows: {speed_ups['1000']:.2f} times, "
                f"at least {1.0 / SLOWER_AT_MOST:.2f} is asked"
            )
        if self.best is not None and speed_ups["1"] < self.best.speed_ups["1"] * _LATER_MUST_BE:
            return f"no faster than {self.best.name}, which is closer to the original"
        return None

    def _speed_ups(self, servable: Servable) -> dict[str, float]:
        """How many times faster than the original, for each number of rows."""
        found = {}
        for size in SIZES:
            make = self._batches[size]
            if size not in self._times:
                self._times[size] = _seconds(self.original, make)
            found[str(size)] = round(self._times[size] / _seconds(servable, make), 2)
        return found

    def result(self) -> Compiled:
        """What won, and the report."""
        best = self.best
        reason = None if best else _reason(self.told)
        counts: dict[str, int] = {}
        if self._expected is not None:
            counts = {kind: asked.n_rows for kind, (asked, _) in self._expected.items()}
        report = {
            "chosen": best.name if best else None,
            "reason": reason,
            "tolerance": TOLERANCE,
            "slower_at_most": SLOWER_AT_MOST,
            "seed": self.seed,
            "points": counts,
            "original_us": {str(size): round(t * 1e6, 1) for size, t in self._times.items()},
            "candidates": self.told,
        }
        if best is None:
            return Compiled(None, {}, report)
        return Compiled(best.candidate.model, best.candidate.options, report)


def _reason(told: list[dict[str, Any]]) -> str:
    """Why the original is served, in one sentence: what became of the first candidate."""
    for part in told:
        if "lost" in part:
            return f"the {part['name']} graph is {part['lost']}"
    first = next((part for part in told if part["name"] == MIXED), None)
    return str(first["error"]) if first else "no candidate was tried"


def _opened(candidate: Candidate, signature: Signature, folder: Path) -> Servable:
    path = folder / MODEL
    path.write_bytes(candidate.model or b"")
    stage = open_stage(StageFiles(folder, (MODEL,), candidate.options))
    try:
        return Chain(signature, (stage,), candidate.options)
    except (LookupError, ValueError) as error:
        raise BadPackage(f"the graph does not fit the signature: {error}") from error


def _batches_of(sample: Batch, size: int) -> Callable[[], Batch]:
    """What makes a new batch of `size` rows, as a door would: few as rows, many as columns."""
    places = np.arange(size) % sample.n_rows
    columns = tuple(column[places] for column in sample.columns)
    fields = sample.fields
    whole = Batch.from_columns(fields, columns)
    if size <= SIZES[1]:
        rows = whole.rows
        return lambda: Batch.from_rows(fields, rows)
    if dense_datatype(fields) is not None:
        matrix = np.ascontiguousarray(np.column_stack(columns))
        return lambda: Batch.from_matrix(fields, matrix)
    return lambda: Batch.from_columns(fields, columns)


def _seconds(servable: Servable, make: Callable[[], Batch]) -> float:
    """The best of a few medians of one call, in seconds."""
    medians = []
    for _ in range(_ROUNDS):
        taken: list[float] = []
        left = _PER_SIZE_S / _ROUNDS
        while len(taken) < _MOST_CALLS and (left > 0.0 or not taken):
            batch = make()
            start = time.perf_counter()
            servable.predict(batch)
            taken.append(time.perf_counter() - start)
            left -= taken[-1]
        medians.append(median(taken))
    return min(medians)
