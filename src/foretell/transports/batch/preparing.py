"""A prepared job is one that is decided in all, before a row is read: what `--dry-run` tells.

Rules:

1. Files, model, options: whatever does not fit together is found here.
2. The output's name tells its form: `.parquet`, `.csv`, `.ndjson`, `.arrow`, each also with `.gz`
   where it is text; any other name is a folder, of Parquet unless `format` says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from foretell.engine.repository import Package
from foretell.errors import BadSettings
from foretell.transports.batch import dataset
from foretell.transports.batch.dataset import Form, Source
from foretell.transports.batch.job import BatchOptions
from foretell.transports.batch.mapping import Choices, Plan, plan_of
from foretell.transports.batch.parts import Stretch, batch_rows_of, stretches_of
from foretell.transports.batch.reading.forms import READERS
from foretell.transports.batch.reading.pieces import Layout, Wanted
from foretell.transports.batch.scoring.answers import Answers
from foretell.transports.batch.scoring.loading import is_graph
from foretell.transports.batch.storage.clouds import is_url
from foretell.transports.batch.writing import Style

_LOOKS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Prepared:
    """What will be done. `single`: the output is one file."""

    output: str
    single: bool
    style: Style
    sources: tuple[Source, ...]
    layouts: tuple[Layout, ...]
    plan: Plan
    stretches: tuple[Stretch, ...]
    batch_rows: int

    @property
    def n_rows(self) -> int | None:
        """How many rows there are; None when only reading tells."""
        total = 0
        for stretch in self.stretches:
            if stretch.stop is None:
                return None
            total += stretch.stop - stretch.start
        return total

    @property
    def n_parts(self) -> int | None:
        """How many parts there are; None when only reading tells."""
        counts = [stretch.parts for stretch in self.stretches]
        return None if None in counts else sum(filter(None, counts))

    def describe(self) -> dict[str, Any]:
        """JSON-ready."""
        feeds = self.plan.wanted[0].feeds
        return {
            "output": self.output,
            "format": str(self.style.form),
            "files": len(self.sources),
            "bytes": sum(source.size for source in self.sources),
            "rows": self.n_rows,
            "parts": self.n_parts,
            "batch_rows": self.batch_rows,
            "inputs": {feed.field.name: ", ".join(feed.columns) or "folder" for feed in feeds},
            "columns": {told.name: str(told.type) for told in self.plan.schema},
        }


def answers_of(
    package: Package, options: BatchOptions, style: Style, predicted_at: datetime
) -> Answers:
    """What a job adds to its rows."""
    manifest = package.manifest
    return Answers(
        manifest.signature,
        manifest.version,
        predicted_at,
        options.probabilities,
        flat=style.form is Form.CSV,
    )


def prepare(package: Package, place: str, output: str, options: BatchOptions) -> Prepared:
    """Decide all of a job. Raises InvalidInput, which tells all that does not fit, BadSettings."""
    style, single = _style(output, options)
    if not single and not is_url(output) and os.path.isfile(output):
        raise BadSettings(
            f"{output} is a file whose name tells no form (there are {', '.join(dataset.FORMS)}): "
            "name a folder, or a file with one of these"
        )
    sources = dataset.find(place)
    dataset.check_apart(place, sources, output)
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:  # stores take their time to answer
        layouts = tuple(pool.map(lambda source: READERS[source.form].look(source), sources))
    signature = package.manifest.signature
    answers = answers_of(package, options, style, datetime.now(UTC))
    choices = Choices(options.columns, options.keep, folders=not single)
    found = list(zip(sources, layouts, strict=True))
    plan = plan_of(signature, found, choices, answers.schema, style.unwritable)
    batch_rows = options.batch_rows or batch_rows_of(
        plan.wanted[0], _widest(layouts), careful=not is_graph(package)
    )
    stops = _stops(sources, layouts, plan.wanted, options.limit, batch_rows)
    stretches = tuple(
        stretch
        for number, stop in stops
        for stretch in stretches_of(number, layouts[number], options.part_rows, stop)
    )
    plan = Plan(plan.wanted, style.schema(plan.schema))
    return Prepared(output, single, style, sources, layouts, plan, stretches, batch_rows)


def _widest(layouts: Sequence[Layout]) -> dict[str, int]:
    """Of each column, the widest that a file tells of."""
    found: dict[str, int] = {}
    for layout in layouts:
        for name, width in layout.widths.items():
            found[name] = max(width, found.get(name, 0))
    return found


def _style(output: str, options: BatchOptions) -> tuple[Style, bool]:
    name = PurePosixPath(output.rstrip("/"))
    packed = name.suffix == ".gz"
    form = dataset.FORMS.get(PurePosixPath(name.stem).suffix if packed else name.suffix)
    single = form is not None and not output.endswith("/")
    if single and packed and dataset.form_of(name.name) is None:
        raise BadSettings(
            f"{output} is to be {form}, which is not packed again: name it {name.stem}"
        )
    compression = options.compression
    if packed and single:
        if compression not in (None, "gzip"):
            raise BadSettings(f"{output} is to be gzip, but compression is {compression!r}")
        compression = "gzip"
    if single and options.format not in (None, form):
        raise BadSettings(f"{output} is to be {form}, but format is {options.format!r}")
    if options.format is not None and options.format not in list(Form):
        raise BadSettings(f"format is {options.format!r}, but there are {', '.join(Form)}")
    chosen = form if single and form else Form(options.format or Form.PARQUET)
    return Style(chosen, compression, options.row_group_rows), single


def _stops(
    sources: Sequence[Source],
    layouts: Sequence[Layout],
    wanted: Sequence[Wanted],
    limit: int | None,
    batch_rows: int,
) -> list[tuple[int, int | None]]:
    """How many rows of which source are wanted (None: all of them)."""
    if limit is None:
        return [(number, None) for number in range(len(sources))]
    stops: list[tuple[int, int | None]] = []
    for number, (source, layout) in enumerate(zip(sources, layouts, strict=True)):
        if layout.groups is not None:
            n_rows = min(limit, sum(layout.groups))
        else:
            pieces = READERS[source.form].read(source, wanted[number], 0, limit, batch_rows)
            n_rows = sum(piece.n_rows for piece in pieces)
        stops.append((number, n_rows))
        limit -= n_rows
        if limit == 0:
            break
    return stops
