"""The speed-up of compiled models: each against its original, side by side in one process.

    python -m benchmarks.compilation                 # about two minutes
    python -m benchmarks.compilation --rounds 3 --json compilation.json

Every model is trained on real data and packed twice, as `foretell pack` and `foretell pack
--no-compile` do it. Both packages are loaded and asked in turns, through the same call:
`servable.predict(batch)`, batch in, batch out.

Exit codes: 0 all budgets held, 1 one was missed, 2 the benchmark could not run.
"""

import argparse
import json
import pickle
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from benchmarks.harness import BenchFailed
from benchmarks.modelling import MODELS, Model
from foretell import ForetellError
from foretell.core.batch import Batch
from foretell.core.field import dense_datatype
from foretell.core.manifest import FILENAME, Manifest
from foretell.core.servable import Servable
from foretell.packing import pack
from foretell.packing.sample import batch_of
from foretell.runtimes import load

SIZES = (1, 32, 1000)
COMPILED, ORIGINAL, PLAIN = "compiled", "original", "plain"
TITLE = "What compiling saves"
TEXT = (
    "Each model is packed twice, compiled and with `--no-compile`, and both are asked in turns in "
    "one process through the same call, `servable.predict(batch)`. *original* is what `foretell "
    "serve` would run with `--no-compile`: the model's own `predict` and `predict_proba` "
    "(`decision_function` for outliers), fed with arrays where that was proven to answer alike. "
    "*plain* is the same methods called by hand on a pandas DataFrame that was made before the "
    "clock started, as most servers do it. All run on one thread; the clock is the CPU time of the "
    "process, which no other process disturbs. Numbers are medians of {rounds} rounds; budgets are "
    "judged against *original*."
)
COLUMNS = (
    "model",
    "graph",
    *(
        f"{rows}: {what}"
        for rows in ("1 row", "32 rows", "1,000 rows")
        for what in ("compiled µs", "original µs", "speed-up", "over plain")
    ),
)
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
        cells = [self.name, self.chosen or "none: the original is served"]
        for rows, taken in self.seconds.items():
            cells += [f"{taken[way] * 1e6:,.1f}" for way in (COMPILED, ORIGINAL)]
            cells += [f"{self.speed_up(rows, over):,.1f}×" for over in (ORIGINAL, PLAIN)]  # noqa: RUF001
        return tuple(cells)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one model is as much faster for one row as it has to be."""

    says: str
    at_least: float
    ratio: float

    @property
    def word(self) -> str:
        """`held` or `missed`."""
        return "held" if self.ratio >= self.at_least else "missed"

    @property
    def spoken(self) -> str:
        """The budget with what was measured."""
        return f"{self.says} (measured {self.ratio:.1f}, at least {self.at_least:.0f})"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a results page: a title, a text, a table and verdicts on budgets."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    verdicts: tuple[Verdict, ...]
    measured: tuple[Measured, ...]

    def as_markdown(self) -> str:
        """As a results page holds it."""
        lines = [
            f"## {self.title}",
            "",
            self.text,
            "",
            "| " + " | ".join(self.columns) + " |",
            "|---|---|" + "---:|" * (len(self.columns) - 2),
            *("| " + " | ".join(row) + " |" for row in self.rows),
            "",
            *(f"- **{verdict.word}**: {verdict.spoken}" for verdict in self.verdicts),
        ]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready; times in seconds."""
        return {
            "title": self.title,
            "budgets": [{**asdict(v), "verdict": v.word} for v in self.verdicts],
            "measured": [
                {
                    **asdict(one),
                    "speed_up": {str(rows): round(one.speed_up(rows), 2) for rows in one.seconds},
                }
                for one in self.measured
            ],
        }


def section(rounds: int, tell: Callable[[str], None] = lambda words: None) -> Section:
    """Measure every model. Raises BenchFailed."""
    measured = []
    for model in MODELS:
        tell(model.name)
        with tempfile.TemporaryDirectory(prefix="foretell-bench-") as folder:
            try:
                measured.append(measure(model, Path(folder), rounds))
            except ForetellError as error:
                raise BenchFailed(f"{model.name}: {error}") from error
    verdicts = tuple(
        Verdict(f"{known.name}, one row: how many times as fast", known.at_least, one.speed_up(1))
        for known, one in zip(MODELS, measured, strict=True)
        if known.at_least is not None
    )
    rows = tuple(one.cells() for one in measured)
    return Section(TITLE, TEXT.format(rounds=rounds), COLUMNS, rows, verdicts, tuple(measured))


def measure(model: Model, folder: Path, rounds: int) -> Measured:
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
        seconds[size] = _in_turns(_ways(servables, trained, asked), rounds)
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


def _in_turns(ways: Mapping[str, Way], rounds: int) -> dict[str, float]:
    """Seconds of a call: the median over the rounds of each round's median."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        many = {name: _calls_at_once(way) for name, way in ways.items()}
        for _ in range(rounds):
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


def _show(console: Console, found: Section) -> None:
    table = Table(title=found.title, title_justify="left")
    for name in ("model", "rows", "compiled µs", "original µs", "speed-up", "plain µs", "speed-up"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for one in found.measured:
        for place, (rows, taken) in enumerate(one.seconds.items()):
            table.add_row(
                "" if place else one.name,
                f"{rows:,}",
                f"{taken[COMPILED] * 1e6:,.1f}",
                f"{taken[ORIGINAL] * 1e6:,.1f}",
                f"{one.speed_up(rows):,.1f}",
                f"{taken[PLAIN] * 1e6:,.1f}",
                f"{one.speed_up(rows, PLAIN):,.1f}",
            )
        table.add_section()
    console.print(table)
    for verdict in found.verdicts:
        style = "green" if verdict.word == "held" else "red"
        console.print(f"[{style}]{verdict.word:>8}[/]  {verdict.spoken}")


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compilation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way (7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    told = parser.parse_args(given)
    if told.rounds < 1:
        parser.error("at least one round is needed")
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with errors.status("") as status:
            found = section(told.rounds, status.update if errors.is_terminal else errors.print)
    except BenchFailed as error:
        errors.print(f"bench: {error}", markup=False)
        return 2
    _show(console, found)
    if told.json is not None:
        told.json.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
    return int(any(verdict.word == "missed" for verdict in found.verdicts))


if __name__ == "__main__":
    sys.exit(main())
