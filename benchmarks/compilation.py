"""Compilation: how much faster compiled models are, each next to its original in one process.

Every model is trained on real data and packed twice, as `foretell pack` and `foretell pack
--no-compile` do it. Both packages are loaded and asked in turns, through the same call:
`servable.predict(batch)`, batch in, batch out.
"""

import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from benchmarks.budgets import Verdict
from benchmarks.harness import BenchFailed
from benchmarks.modelling import MODELS, Model
from benchmarks.sections import Effort, Section, each
from foretell.core.batch import Batch
from foretell.core.field import dense_datatype
from foretell.core.manifest import FILENAME, Manifest
from foretell.core.servable import Servable
from foretell.packing import pack
from foretell.packing.sample import batch_of
from foretell.runtimes import load

SIZES = (1, 32, 1000)
COMPILED, ORIGINAL, PLAIN = "compiled", "original", "plain"
COLUMNS = (
    "model",
    "one row, compiled µs",
    "one row, original µs",
    "speed-up",
    "over plain",
    "32 rows, speed-up",
    "1,000 rows, speed-up",
)
_TEXT = (
    "Each model is packed twice, compiled and with `--no-compile`, and both are asked in turns in "
    "one process through the same call, `servable.predict(batch)`. *original* is what `foretell "
    "serve` would run with `--no-compile`: the model's own `predict` and `predict_proba` "
    "(`decision_function` for outliers), fed with arrays where that was proven to answer alike. "
    "*plain* is the same methods called by hand on a pandas DataFrame that was made before the "
    "clock started, as most servers do it. All run on one thread of the benchmark's own process; "
    "the clock is its CPU time, which no other process disturbs. Numbers are medians of {turns} "
    "turns each. Budgets are judged by one row, against *original*."
)
TURNS_PER_ROUND = 2
_PER_TURN_S = 0.03
_LEAST, _MOST_AT_ONCE = 3, 100


@dataclass(frozen=True, slots=True)
class Measured:
    """One model: the graph that was chosen, and seconds by rows and by way of asking."""

    name: str
    chosen: str | None
    seconds: Mapping[int, Mapping[str, float]]

    def speed_up(self, rows: int, over: str = ORIGINAL) -> float:
        """How many times as fast as `over` the compiled package answers."""
        return self.seconds[rows][over] / self.seconds[rows][COMPILED]

    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        one_row = [f"{self.seconds[1][way] * 1e6:,.1f}" for way in (COMPILED, ORIGINAL)]
        ratios = ((1, ORIGINAL), (1, PLAIN), (32, ORIGINAL), (1000, ORIGINAL))
        name = self.name if self.chosen else f"{self.name} (not compiled)"
        return (name, *one_row, *(f"{self.speed_up(*one):,.1f}×" for one in ratios))  # noqa: RUF001


def compilation(effort: Effort) -> Section:
    """Measure and judge; a quick run has only some of the models. Raises BenchFailed."""
    turns = effort.rounds * TURNS_PER_ROUND + 1
    found = each(effort, "compilation", MODELS, lambda model, own: measure(model, own, turns))
    return Section(
        "What compiling saves",
        _TEXT.format(turns=turns),
        COLUMNS,
        [one.cells() for one in found.values()],
        [
            Verdict(
                f"{model.name}, one row: the original's CPU over the compiled model's",
                model.limit,
                found[model.name].speed_up(1) if model.name in found else None,
            )
            for model in MODELS
            if model.limit is not None
        ],
        labels=1,
        data=[
            {**asdict(one), "speed_up": {str(rows): one.speed_up(rows) for rows in SIZES}}
            for one in found.values()
        ],
    )


def measure(model: Model, folder: Path, turns: int) -> Measured:
    """Train, pack twice, load and time one model. Raises ForetellError and BenchFailed."""
    frame, y = model.data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = model.make().fit(frame, y)
        (folder / "model.pkl").write_bytes(pickle.dumps(trained))
        frame.to_parquet(folder / "sample.parquet")
        made = {
            way: pack(
                [folder / "model.pkl"],
                sample=folder / "sample.parquet",
                repository=folder / way,
                compile=way == COMPILED,
            )
            for way in (COMPILED, ORIGINAL)
        }
    manifests = {way: _manifest(made[way]) for way in made}
    servables = {way: load(manifests[way], made[way]) for way in made}
    _check(model.name, batch_of(frame, servables[ORIGINAL].signature.inputs), servables)
    seconds = {}
    for size in SIZES:
        places = np.random.default_rng(size).integers(0, len(frame), size)
        asked = frame.iloc[places].reset_index(drop=True)
        seconds[size] = _in_turns(_ways(servables, trained, asked), turns)
    report = manifests[COMPILED].compile_report
    return Measured(model.name, report["chosen"] if report else None, seconds)


def _manifest(folder: Path) -> Manifest:
    return Manifest.from_text((folder / FILENAME).read_text(encoding="utf-8"))


def _check(name: str, batch: Batch, servables: Mapping[str, Servable]) -> None:
    """Raise BenchFailed when the two packages differ: a wrong answer is fast, too."""
    given, wanted = (servables[way].predict(batch) for way in (COMPILED, ORIGINAL))
    for field, one, other in zip(given.fields, given.columns, wanted.columns, strict=True):
        floats = one.dtype.kind == "f"
        if not (np.allclose(one, other, 1e-6, 1e-6) if floats else np.array_equal(one, other)):
            raise BenchFailed(f"{name}: the compiled package answers another {field.name}")


Way = Callable[[], Callable[[], object]]
"""Makes a call ready: what it returns is timed."""


def _ways(servables: Mapping[str, Servable], trained: Any, asked: Any) -> dict[str, Way]:
    ways = {way: _servable_way(servable, asked) for way, servable in servables.items()}
    methods = [
        getattr(trained, name)
        for name in ("predict", "predict_proba", "decision_function")
        if hasattr(trained, name)
    ]
    if hasattr(trained, "predict_proba"):
        methods = methods[:2]
    ways[PLAIN] = lambda: lambda: [method(asked) for method in methods]
    return ways


def _servable_way(servable: Servable, asked: Any) -> Way:
    """A new batch for every call, in the form in which requests of this size arrive."""
    fields = servable.signature.inputs
    whole = batch_of(asked, fields)
    if len(asked) <= 32:
        rows = list(whole.rows)
        return lambda: _bound(servable, Batch.from_rows(fields, rows))
    if dense_datatype(fields) is None:
        return lambda: _bound(servable, Batch.from_columns(fields, whole.columns))
    matrix = np.ascontiguousarray(whole.matrix)
    return lambda: _bound(servable, Batch.from_matrix(fields, matrix))


def _bound(servable: Servable, batch: Batch) -> Callable[[], object]:
    return lambda: servable.predict(batch)


def _in_turns(ways: Mapping[str, Way], turns: int) -> dict[str, float]:
    """Seconds of a call: the median over the turns of each turn's median."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        many = {name: _calls_at_once(way) for name, way in ways.items()}
        for _ in range(turns):
            for name, way in ways.items():
                found[name].append(median(_turn(way, many[name])))
    return {name: median(medians) for name, medians in found.items()}


def _calls_at_once(way: Way) -> int:
    """So many calls take about a millisecond: reading the clock costs a part of a microsecond."""
    taken = min(_seconds(way, 1) for _ in range(_LEAST))
    return max(1, min(_MOST_AT_ONCE, round(0.001 / taken)))


def _turn(way: Way, many: int) -> Iterator[float]:
    _seconds(way, many)  # the caches of the processor are its own again
    left, times = _PER_TURN_S, 0
    while times < _LEAST or left > 0.0:
        taken = _seconds(way, many)
        yield taken
        left, times = left - taken * many, times + 1


def _seconds(way: Way, many: int) -> float:
    """CPU seconds of one of `many` calls, made ready before."""
    calls = [way() for _ in range(many)]
    start = time.process_time()
    for call in calls:
        call()
    return (time.process_time() - start) / many
