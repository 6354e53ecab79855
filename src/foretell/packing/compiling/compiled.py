"""A compilation is the search for the fastest graph that provably answers as the original does.

Rules:

1. Every candidate of `candidates.py` is built and proven; those that pass are timed with the
   original, all in turns. Each stays in the report, with what it lost by.
2. Beating the original means: faster for one row, and not slower than `SLOWER_AT_MOST` times
   for 1,000 rows.
3. The fastest for one row wins. A later candidate must be `LATER_MUST_BE` times as fast as an
   earlier one, which is closer to the original's arithmetic: noise does not displace an exact
   graph, and precision is not given up for a little.
4. From the first candidate, when it is proven, a form for many rows is made and proven likewise
   (`bulk.py`). It stays where it is `BULK_MUST_BE` times as fast as what is served, for
   `BULK_ROWS` rows.
5. Packing stays quick: the generic converter, which takes minutes for large forests, is not
   asked when that would take more than about `CONVERTING_S` and a graph is proven already, nor
   ever for more than `CONVERTING_AT_ALL_S`; nothing new is tried after `LONGEST_S`. The report
   says so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import dense_datatype
from foretell.core.servable import Servable
from foretell.core.signature import Signature
from foretell.errors import BadPackage, MissingExtra
from foretell.packing.compiling.apart import ends_its_process
from foretell.packing.compiling.bulk import BulkForm, bulk_form, opened
from foretell.packing.compiling.candidates import MIXED, Candidate, builders, converting_s
from foretell.packing.compiling.drawing.graph import Unfaithful
from foretell.packing.compiling.points import points
from foretell.packing.compiling.prove import TOLERANCE, Answers, original_answers, prove
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.lightgbm_files import LightGBMStage
from foretell.runtimes.onnx_files import open_stage
from foretell.runtimes.stages import Chain, Stage, StageFiles
from foretell.runtimes.xgboost_files import XGBoostStage

MODEL = "model.onnx"
SLOWER_AT_MOST = 2.0
LATER_MUST_BE = 2.0
LONGEST_S = 20.0
CONVERTING_S, CONVERTING_AT_ALL_S = 1.5, 15.0
SIZES = (1, 32, 1000)
BULK_ROWS, BULK_MUST_BE = 10_000, 1.2
_PER_SIZE_S = 0.12
_MOST_CALLS = 100
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Compiled:
    """The chosen graph with the options of its `onnx` step, or None; and the report.

    `bulk` is the form for many rows, where there is one.
    """

    model: bytes | None
    options: Mapping[str, Any]
    report: Mapping[str, Any]
    bulk: BulkForm | None = None


def compile_chain(
    stages: tuple[Stage, ...],
    signature: Signature,
    options: Mapping[str, Any],
    sample: Batch,
    *,
    seed: int = 0,
) -> Compiled:
    """Compile `stages` (opened; `options` are the first step's), proven around `sample`.

    `sample` is a batch of `signature.inputs` that the model answers. Raises MissingExtra when
    onnx is not installed; whatever else goes wrong is a reason in the report.
    """
    compilable = (EstimatorStage, LightGBMStage, XGBoostStage)
    if not all(isinstance(stage, compilable) for stage in stages):
        return Compiled(None, {}, refused("it runs code of its own, or is a graph already"))
    search = _Search(Chain(signature, stages, options), sample, seed)
    needed = converting_s(
        [stage.estimator for stage in stages if isinstance(stage, EstimatorStage)]
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="foretell-compile-") as folder:
        for name, build in builders(stages, signature, options, seed):
            most = CONVERTING_S if search.proven else CONVERTING_AT_ALL_S
            if time.perf_counter() - began > LONGEST_S:
                search.skip(name, f"not tried: {LONGEST_S:.0f} s were over")
            elif name != MIXED and needed > most:
                search.skip(name, f"not tried: converting it would take about {needed:,.0f} s")
            else:
                search.consider(build(), Path(folder))
        return search.in_bulk(search.result(), Path(folder))


def refused(reason: str) -> dict[str, Any]:
    """The report of a model for which nothing was tried."""
    return {"chosen": None, "reason": reason, "candidates": []}


@dataclass(frozen=True, slots=True)
class _Proven:
    candidate: Candidate
    servable: Servable
    told: dict[str, Any]


class _Search:
    """The candidates seen so far, and those that are proven."""

    def __init__(self, original: Servable, sample: Batch, seed: int) -> None:
        self.original = original
        self.sample = sample
        self.seed = seed
        self.proven: list[_Proven] = []
        self.told: list[dict[str, Any]] = []
        self._expected: Answers | None = None

    def skip(self, name: str, reason: str) -> None:
        """Report a candidate that was not built."""
        self.told.append({"name": name, "built": False, "error": reason, "proven": False})

    def consider(self, candidate: Candidate, folder: Path) -> None:
        """Open a candidate and prove it."""
        if self._expected is None:  # the first candidate knows the thresholds
            around = points(self.sample, candidate.cuts, self.seed)
            self._expected = original_answers(self.original, around)
        if candidate.model is None:
            self.skip(candidate.name, candidate.error or "it was not built")
            return
        told: dict[str, Any] = {"name": candidate.name, "built": True, "error": None}
        self.told.append(told)
        if candidate.name != MIXED:
            asked = [batch for batch, _ in self._expected.values()]
            if (end := ends_its_process(candidate.model, asked, folder)) is not None:
                told |= {"proven": False, "lost": f"not proven: {end}"}
                return
        try:
            servable = _opened(candidate, self.original.signature, folder)
        except BadPackage as error:
            told |= {"built": False, "error": error.message[:160], "proven": False}
            return
        proof = prove(servable, self._expected)
        told |= {**proof.describe(), "size": len(candidate.model)}
        if proof.failure is not None:
            told["lost"] = f"not proven: {proof.failure}"
        else:
            self.proven.append(_Proven(candidate, servable, told))

    def result(self) -> Compiled:
        """Time what is proven; what won, and the report."""
        times = self._times()
        best: _Proven | None = None
        for one, taken in zip(self.proven, times[1:], strict=True):
            ratios = {str(n): round(times[0][n] / taken[n], 2) for n in SIZES}
            one.told["speed_up"] = ratios
            lost = _lost(ratios, best)
            if lost is not None:
                one.told["lost"] = lost
                continue
            if best is not None:
                best.told["lost"] = f"{one.candidate.name} is faster"
            best = one
        counts: dict[str, int] = {}
        if self._expected is not None:
            counts = {kind: asked.n_rows for kind, (asked, _) in self._expected.items()}
        report = {
            "chosen": best.candidate.name if best else None,
            "reason": None if best else _reason(self.told),
            "tolerance": TOLERANCE,
            "slower_at_most": SLOWER_AT_MOST,
            "seed": self.seed,
            "points": counts,
            "original_us": {str(size): round(t * 1e6, 1) for size, t in times[0].items()},
            "candidates": self.told,
        }
        if best is None:
            return Compiled(None, {}, report)
        return Compiled(best.candidate.model, best.candidate.options, report)

    def in_bulk(self, compiled: Compiled, folder: Path) -> Compiled:
        """`compiled` with a form for many rows, when one is proven and faster; and its report."""
        told: dict[str, Any] = {"built": False, "error": None, "proven": False}
        report = {**compiled.report, "bulk": told}
        drawn = next((one for one in self.proven if one.candidate.name == MIXED), None)
        if drawn is None or drawn.candidate.model is None:
            told["error"] = f"there is no proven {MIXED} graph"
            return replace(compiled, report=report)
        try:
            form = bulk_form(drawn.candidate.model, drawn.candidate.options)
            servable = opened(form, self.original.signature, folder)
        except (Unfaithful, BadPackage, MissingExtra) as error:
            told["error"] = str(error)[:160]
            return replace(compiled, report=report)
        except Exception as error:  # noqa: BLE001  the graph serves: the report tells what failed
            told["error"] = f"{type(error).__name__}: {error}"[:160]
            return replace(compiled, report=report)
        proof = prove(servable, self._expected or {})
        told |= {"built": True, **proof.describe(), "size": form.size}
        if proof.failure is not None:
            told["lost"] = f"not proven: {proof.failure}"
            return replace(compiled, report=report)
        chosen = compiled.report["chosen"]
        served = next(
            (one.servable for one in self.proven if one.candidate.name == chosen), self.original
        )
        make = _batches_of(self.sample, BULK_ROWS)
        times = [[_seconds(one, make) for one in (served, servable)] for _ in range(_ROUNDS)]
        by_served, by_bulk = map(min, zip(*times, strict=True))
        told["speed_up"] = {str(BULK_ROWS): round(by_served / by_bulk, 2)}
        if by_served < by_bulk * BULK_MUST_BE:
            told["lost"] = f"less than {BULK_MUST_BE} times as fast for {BULK_ROWS:,} rows"
            return replace(compiled, report=report)
        return replace(compiled, report=report, bulk=form)

    def _times(self) -> list[dict[int, float]]:
        """Seconds by rows of the original, and of each proven candidate in order."""
        servables = [self.original, *(one.servable for one in self.proven)]
        taken: list[dict[int, float]] = [{} for _ in servables]
        for size in SIZES if self.proven else ():
            make = _batches_of(self.sample, size)
            medians = [[_seconds(servable, make) for servable in servables] for _ in range(_ROUNDS)]
            for place, of_one in enumerate(zip(*medians, strict=True)):
                taken[place][size] = min(of_one)
        return taken


def _lost(speed_ups: Mapping[str, float], best: _Proven | None) -> str | None:
    """Why a proven candidate loses, to the original or to an earlier one."""
    if speed_ups["1"] <= 1.0:
        return f"not faster than the original: {speed_ups['1']:.2f} times for one row"
    if speed_ups["1000"] < 1.0 / SLOWER_AT_MOST:
        return (
            f"slower than the original for 1,000 rows: {speed_ups['1000']:.2f} times, "
            f"at least {1.0 / SLOWER_AT_MOST:.2f} is asked"
        )
    if best is not None and speed_ups["1"] < best.told["speed_up"]["1"] * LATER_MUST_BE:
        return (
            f"less than {LATER_MUST_BE} times as fast as {best.candidate.name}, "
            "which is closer to the original"
        )
    return None


def _reason(told: list[dict[str, Any]]) -> str:
    """Why the original is served, in one sentence: what became of the first, and of one more."""
    if not told:
        return "no candidate was tried"
    words = []
    for part in told:
        if "lost" in part:
            words.append(f"the {part['name']} graph is {part['lost']}")
        elif part["name"] == MIXED:
            words.append(str(part["error"]))
    return "; ".join(words[:2])


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
    """The median of one call, in seconds."""
    taken: list[float] = []
    left = _PER_SIZE_S / _ROUNDS
    while len(taken) < _MOST_CALLS and (left > 0.0 or not taken):
        batch = make()
        start = time.perf_counter()
        servable.predict(batch)
        taken.append(time.perf_counter() - start)
        left -= taken[-1]
    return median(taken)
