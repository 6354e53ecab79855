"""Running a job: its parts are read, scored and written, and each is committed once.

Rules:

1. The order of a commit: the quarantined rows, the data, the record. A part is done when its record
   is there; whatever else lies about is written again.
2. A job that meets a bad row ends there, unless such rows are to be left out.
3. A single file is made of parts in a hidden folder beside it, and appears when it is complete.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime

from foretell.core.manifest import Manifest
from foretell.engine.executors import Predict
from foretell.engine.repository import Package
from foretell.transports.batch.committing import CommittedStream, Run
from foretell.transports.batch.engines.elsewhere import Elsewhere, Engine, order_of
from foretell.transports.batch.engines.local import Workers
from foretell.transports.batch.job import BatchOptions, Job
from foretell.transports.batch.ledger import (
    QUARANTINE,
    Ledger,
    check_file,
    check_output,
    check_outside,
    open_ledger,
)
from foretell.transports.batch.parts import PartStream, name_of
from foretell.transports.batch.preparing import Prepared, answers_of
from foretell.transports.batch.report import Progress, Report
from foretell.transports.batch.scoring.loading import bulk_of, needs_processes, scorer_of
from foretell.transports.batch.scoring.scorer import Scorer
from foretell.transports.batch.storage import Store, open_store
from foretell.transports.batch.writing import join

Hook = Callable[[Progress], None]


class Counts:
    """How far a job is; workers add to it, and one thread looks."""

    def __init__(self, prepared: Prepared, ledger: Ledger) -> None:
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._prepared = prepared
        self._before = list(ledger.done.values())
        self._rows = self._bad = self._parts = 0

    def add(self, rows: int, bad: int, parts: int) -> None:
        """So many more."""
        with self._lock:
            self._rows += rows
            self._bad += bad
            self._parts += parts

    def progress(self) -> Progress:
        """How far it is now."""
        with self._lock:
            return Progress(
                rows=self._rows,
                bad=self._bad,
                parts=self._parts,
                rows_before=sum(part.rows + part.bad for part in self._before),
                parts_before=len(self._before),
                rows_total=self._prepared.n_rows,
                parts_total=self._prepared.n_parts,
                seconds=time.perf_counter() - self._start,
            )


def run(
    package: Package,
    prepared: Prepared,
    options: BatchOptions,
    hook: Hook,
    *,
    engine: Engine | None = None,
    every_s: float = 0.5,
) -> Report:
    """Do what is left of a job, and report. Raises what ends it; what was committed stays.

    Workers of this process do it, or those of `engine`.
    """
    manifest = package.manifest
    loaded_bulk = bulk_of(package, prepared.batch_rows)
    job, place = _job(package, prepared, options, bulk=loaded_bulk is not None)
    store = open_store(place)
    _check_place(prepared, options, store)
    with open_ledger(store, job) as ledger:
        counts = Counts(prepared, ledger)
        streams = list(_streams(prepared, ledger))
        if streams:
            ledger.reopen()

        def tick() -> None:
            ledger.held()
            hook(counts.progress())

        if streams and engine is None:
            scorer = _scorers(package, prepared, options, ledger, loaded_bulk)
            shared = Run(prepared, options, store, ledger, counts)
            own = [CommittedStream(shared, stream) for stream in streams]
            Workers(own, scorer, workers=options.threads).run(tick, every_s)
        elif streams and engine is not None:
            order = order_of(package, prepared, options, ledger, place)
            Elsewhere(engine, order, ledger, counts).run(streams, tick, every_s)
        report = _reported(prepared, options, ledger, counts.progress(), manifest)
        if prepared.single:
            _join(prepared, options, store, ledger)
        else:
            ledger.finish(report.describe())
    return report


def _scorers(
    package: Package,
    prepared: Prepared,
    options: BatchOptions,
    ledger: Ledger,
    loaded_bulk: Predict | None,
) -> Callable[[], AbstractContextManager[Scorer]]:
    """What makes the scorer of each worker of this process."""
    predicted_at = datetime.fromisoformat(ledger.predicted_at)
    answers = answers_of(package, options, prepared.style, predicted_at)
    apart = options.threads > 1 and not ledger.bulk and needs_processes(package)
    loaded = iter([loaded_bulk])  # one worker's; the others load their own

    def scorer() -> AbstractContextManager[Scorer]:
        mine = next(loaded, None)
        return closing(
            scorer_of(package, options, answers, bulk=ledger.bulk, loaded_bulk=mine, apart=apart)
        )

    return scorer


def parts_done(package: Package, prepared: Prepared, options: BatchOptions) -> int:
    """How many parts of a job are done already. Raises JobRefused, as `run` would."""
    job, place = _job(package, prepared, options)
    store = open_store(place)
    _check_place(prepared, options, store)
    return check_output(store, job)


def _job(
    package: Package, prepared: Prepared, options: BatchOptions, *, bulk: bool = False
) -> tuple[Job, str]:
    """The job as it is written down, and where."""
    manifest = package.manifest
    now = datetime.now(UTC).isoformat()
    digest = digest_of(package)
    job = Job(prepared.sources, manifest.name, manifest.version, digest, options, now, bulk)
    return job, _hidden(prepared.output) if prepared.single else prepared.output


def _check_place(prepared: Prepared, options: BatchOptions, store: Store) -> None:
    check_outside(prepared.output)
    if prepared.single and not options.overwrite:
        check_file(*_beside(prepared.output), store)


def _beside(output: str) -> tuple[Store, str]:
    """The folder in which a single file is to be, and its name there."""
    folder, _, name = output.rpartition("/")
    return open_store(folder or ("/" if output.startswith("/") else ".")), name


def _join(prepared: Prepared, options: BatchOptions, store: Store, ledger: Ledger) -> None:
    """Make the one file of all parts, and leave nothing beside it but what was quarantined."""
    beside, name = _beside(prepared.output)
    beside.sweep(name)
    records = sorted(ledger.done.values(), key=lambda one: (one.source, one.start))
    bad = [f"{QUARANTINE}/{record.part}.ndjson" for record in records if record.bad]
    if bad and options.on_bad_row == "quarantine":
        with beside.writing(_quarantine_of(name)) as file:
            for part in bad:
                file.write(store.read(part))
    else:
        beside.remove(_quarantine_of(name))  # of rows of another job, which the file has no more
    with beside.writing(name) as file:
        parts = (functools.partial(store.open, record.file) for record in records)
        join(prepared.style, parts, file, prepared.plan.schema)
        ledger.held()
    store.clear()


def _quarantine_of(output: str) -> str:
    return f"{output}.{QUARANTINE.removeprefix('_')}.ndjson"


def _streams(prepared: Prepared, ledger: Ledger) -> Iterator[PartStream]:
    """The stretches in which something is left to be done."""
    ended = {record.source: record for record in ledger.done.values() if record.last}
    for stretch in prepared.stretches:
        parts = stretch.parts
        if parts is None and stretch.source in ended:
            parts = int(ended[stretch.source].part.rpartition("-")[2]) + 1
        names = (
            None
            if parts is None
            else [name_of(stretch.source, stretch.first_part + part) for part in range(parts)]
        )
        if names is None or any(name not in ledger.done for name in names):
            yield PartStream(
                stretch,
                prepared.sources[stretch.source],
                prepared.plan.wanted[stretch.source],
                prepared.batch_rows,
                frozenset(ledger.done),
            )


def digest_of(package: Package) -> str:
    """What tells one model from another: its files, its steps, its signature."""
    manifest = package.manifest
    told = {
        "files": sorted((file.path, file.sha256) for file in manifest.files),
        "steps": [
            (step.runtime, step.files, step.options)
            for step in (*manifest.steps, *((manifest.bulk,) if manifest.bulk else ()))
        ],
        "signature": manifest.signature.describe(),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _hidden(output: str) -> str:
    """The folder of a single file's parts."""
    folder, slash, name = output.rpartition("/")
    return f"{folder}{slash}.{name}.parts"


def _reported(
    prepared: Prepared,
    options: BatchOptions,
    ledger: Ledger,
    progress: Progress,
    manifest: Manifest,
) -> Report:
    done, output, single = ledger.done.values(), prepared.output, prepared.single
    quarantine = _quarantine_of(output) if single else f"{output.rstrip('/')}/{QUARANTINE}"
    bad = sum(record.bad for record in done)
    return Report(
        output=output,
        model=manifest.name,
        version=manifest.version,
        predicted_at=ledger.predicted_at,
        files=len({stretch.source for stretch in prepared.stretches}),
        rows_in=sum(record.rows + record.bad for record in done),
        rows_scored=sum(record.rows for record in done),
        bad_rows=bad,
        parts=len(done),
        parts_before=progress.parts_before,
        rows_before=progress.rows_before,
        seconds=progress.seconds,
        rows_per_s=progress.rows_per_s,
        quarantine=quarantine if bad and options.on_bad_row == "quarantine" else None,
    )
