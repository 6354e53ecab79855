"""Many rows: how many a second one core answers, by the framework, by ONNX Runtime and in bulk.

Models are trained as `foretell pack` gets them, packed, and loaded; a batch of many rows is then
asked for in turns, through each way.
"""

import pickle
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from sklearn import ensemble
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from benchmarks.budgets import Limit, Verdict, at_least
from benchmarks.harness import BenchFailed
from benchmarks.sections import Effort, Section, each
from foretell.core.batch import Batch
from foretell.core.field import Field
from foretell.core.servable import Servable
from foretell.engine.repository import read
from foretell.packing import pack
from foretell.runtimes import load, load_bulk

FRAMEWORK, GRAPH, BULK = "scikit-learn", "ONNX Runtime", "bulk"
COLUMNS = ("model", *(f"{way}, rows/s" for way in (FRAMEWORK, GRAPH, BULK)), "over ONNX Runtime")
_TEXT = (
    "Rows that one core answers in a second: {rows:,} at a time, of four columns, in one process, "
    "each way in turns. *scikit-learn* is `predict` and `predict_proba` of the model, on a "
    "DataFrame that was made before the clock started; *ONNX Runtime* is the package as it is "
    "served, asked for {block:,} rows at a time, which suits it best; *bulk* is its form for many "
    "rows, which batch jobs take: the trees as plain arrays, summed by a compiled loop. The clock "
    "is the process's CPU time; numbers are medians of {turns} turns. All three answer alike, to "
    "the last bits of a float64."
)
_ROWS, _BLOCK_ROWS, _TRAINED_ROWS = 65_536, 2_048, 20_000
_NAMES = ["a", "b", "c", "d"]
_TWICE = at_least(2)


@dataclass(frozen=True, slots=True)
class Trees:
    """A model of trees; how many rows a second its bulk form must answer, and over the graph."""

    name: str
    make: Callable[[], Any]
    limit: Limit
    quick: bool = False
    over: Limit = _TWICE


MODELS = (
    Trees(
        "gradient boosting, 100 trees of depth 3",
        lambda: ensemble.GradientBoostingClassifier(random_state=0),
        at_least(1_200_000, "rows/s"),
        quick=True,
    ),
    Trees(
        "random forest, 100 trees of depth 10",
        lambda: ensemble.RandomForestClassifier(max_depth=10, random_state=0),
        at_least(350_000, "rows/s"),
    ),
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows a second of one model, by the way they are asked for."""

    name: str
    rates: Mapping[str, float]

    @property
    def over(self) -> float:
        """How many times as many as ONNX Runtime's are answered in bulk."""
        return self.rates[BULK] / self.rates[GRAPH]

    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        told = [f"{self.rates[way]:,.0f}" for way in (FRAMEWORK, GRAPH, BULK)]
        return (self.name, *told, f"{self.over:,.1f}×")  # noqa: RUF001


def many_rows(effort: Effort) -> Section:
    """Measure and judge; a quick run has only some of the models. Raises BenchFailed."""
    turns = 2 * effort.rounds + 1
    found = each(effort, "bulk", MODELS, lambda model, own: measure(model, own, turns))
    return Section(
        "What a core answers in bulk",
        _TEXT.format(rows=_ROWS, block=_BLOCK_ROWS, turns=turns),
        COLUMNS,
        [one.cells() for one in found.values()],
        [verdict for model in MODELS for verdict in _verdicts(model, found.get(model.name))],
        labels=1,
        data=[asdict(one) for one in found.values()],
    )


def _verdicts(model: Trees, found: Rates | None) -> list[Verdict]:
    rate, over = (None, None) if found is None else (found.rates[BULK], found.over)
    return [
        Verdict(f"{model.name}: rows a second of one core in bulk", model.limit, rate),
        Verdict(f"{model.name}: rows in bulk over ONNX Runtime's", model.over, over),
    ]


def measure(model: Trees, folder: Path, turns: int) -> Rates:
    """Train, pack, load and time one model. Raises ForetellError and BenchFailed."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(_TRAINED_ROWS, len(_NAMES))), columns=_NAMES)
    noise = random.normal(size=_TRAINED_ROWS)
    trained = model.make().fit(frame, frame["a"] * frame["b"] + frame["c"] + noise > 0)
    (folder / "model.pkl").write_bytes(pickle.dumps(trained))
    frame.iloc[:500].to_parquet(folder / "sample.parquet")
    made = pack(
        [folder / "model.pkl"], sample=folder / "sample.parquet", repository=folder / "models"
    )
    manifest = read(made).manifest
    graph, bulk = load(manifest, made), load_bulk(manifest, made)
    if bulk is None:
        raise BenchFailed(f"{model.name} has no form for many rows: {manifest.compile_report}")
    asked = pd.DataFrame(random.normal(size=(_ROWS, len(_NAMES))), columns=_NAMES)
    fields = manifest.signature.inputs
    ways: dict[str, Callable[[], Any]] = {
        FRAMEWORK: lambda: (trained.predict(asked), trained.predict_proba(asked)),
        GRAPH: lambda: _in_blocks(graph, _batch(fields, asked)).columns,
        BULK: lambda: bulk.predict(_batch(fields, asked)).columns,
    }
    _check(model.name, ways)
    return Rates(model.name, _rates(ways, turns))


def _batch(fields: tuple[Field, ...], asked: pd.DataFrame) -> Batch:
    """A batch of columns, as a batch job reads them."""
    return Batch.from_columns(fields, [asked[name].to_numpy() for name in _NAMES])


def _in_blocks(graph: Servable, batch: Batch) -> Batch:
    """The graph's answers, at the number of rows at which it is quickest."""
    starts = range(0, batch.n_rows, _BLOCK_ROWS)
    return Batch.concat([graph.predict(batch.slice(at, at + _BLOCK_ROWS)) for at in starts])


def _check(name: str, ways: Mapping[str, Callable[[], Any]]) -> None:
    """Raise BenchFailed when one way answers otherwise: a wrong answer is fast, too."""
    labels, chances = ways[FRAMEWORK]()
    for way in (GRAPH, BULK):
        given, told = ways[way]()
        if not np.array_equal(given, labels) or not np.allclose(told, chances, 1e-9, 1e-12):
            raise BenchFailed(f"{name}: {way} gives other answers than {FRAMEWORK}")


def _rates(ways: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Rows a CPU second, by way: the median of the turns."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        for _ in range(turns):
            for way, ask in ways.items():
                start = time.process_time()
                ask()
                seconds[way].append(time.process_time() - start)
    return {way: _ROWS / median(taken) for way, taken in seconds.items()}
