"""Running a job: its parts are read, scored and written, and each is committed once.

Rules:

1. The order of a commit: the quarantined rows, the data, the record. A part is done when its record
   is there; whatever else lies about is written again.
2. A job that meets a bad row ends there, unless such rows are to be left out.
3. A single file is made of parts in a hidden folder beside it, and appears when it is complete.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

from foretell.engine import fleet
from foretell.engine.executors.choosing import ExecutorKind
from foretell.engine.repository import Package
from foretell.errors import InvalidInput
from foretell.transports.batch.engines.local import Workers
from foretell.transports.batch.job import BatchOptions, Job
from foretell.transports.batch.ledger import QUARANTINE, Ledger, PartRecord, open_ledger
from foretell.transports.batch.parts import PartStream, folder_of, name_of
from foretell.transports.batch.preparing import Prepared, answers_of
from foretell.transports.batch.report import Progress, Report
from foretell.transports.batch.scoring.scorer import Bad, Scored, Scorer, in_blocks
from foretell.transports.batch.storage import Store, open_store
from foretell.transports.batch.writing import RowWriter, join, rows_of

_BLOCK_ROWS = 4096
Hook = Callable[[Progress], None]
_encode = msgspec.json.Encoder(enc_hook=str).encode


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


@dataclass(frozen=True, slots=True)
class _Run:
    """What all parts of a run share."""

    prepared: Prepared
    options: BatchOptions
    store: Store
    ledger: Ledger
    counts: Counts


class _PartOutput:
    """Where the rows of one part go."""

    def __init__(self, run: _Run, stream: PartStream, part: int) -> None:
        self._run = run
        self._stream = stream
        self._part = part
        name = name_of(stream.stretch.source, part)
        folder = "" if run.prepared.single else folder_of(stream.source)
        self._name = name
        self._file = f"{folder}{name}{run.prepared.style.suffix}"
        self._files = ExitStack()
        file = self._files.enter_context(run.store.writing(self._file))
        self._rows: RowWriter = rows_of(
            run.prepared.style, file, run.prepared.plan.schema, header=not run.prepared.single
        )
        self._quarantine: BinaryIO | None = None
        self._quarantined = ExitStack()
        self._written = self._bad = 0

    def write(self, scored: Scored) -> None:
        """The next rows. Raises InvalidInput for a bad row, unless they are left out."""
        for bad in scored.bad:
            self._refuse(bad)
        if scored.table.num_rows:
            self._rows.write(scored.table)
        self._written += scored.table.num_rows
        self._bad += len(scored.bad)
        self._run.counts.add(scored.n_rows, len(scored.bad), 0)

    def _refuse(self, bad: Bad) -> None:
        told, path = bad.row, self._stream.source.path
        if self._run.options.on_bad_row == "fail":
            raise InvalidInput(
                f"{path}, row {told.row}: {told.reason}; correct it, or leave such rows out with "
                "--on-bad-row skip or quarantine",
                field=told.column,
                row=told.row,
            )
        if self._run.options.on_bad_row == "quarantine":
            if self._quarantine is None:
                name = f"{QUARANTINE}/{self._name}.ndjson"
                opened = self._run.store.writing(name)
                self._quarantine = self._quarantined.enter_context(opened)
            data = told.raw if bad.values is None else bad.values.to_pylist()[0]
            line = {
                "file": path,
                "row": told.row,
                "column": told.column,
                "error": told.reason,
                "data": data,
            }
            self._quarantine.write(_encode(line) + b"\n")

    def commit(self, *, last: bool) -> None:
        """All rows were written; `last`: none is left in its stretch."""
        self._rows.close()
        self._quarantined.close()
        self._files.close()
        stretch = self._stream.stretch
        start, stop = stretch.rows_of(self._part)
        record = PartRecord(
            part=self._name,
            source=stretch.source,
            start=start,
            stop=stop,
            rows=self._written,
            bad=self._bad,
            file=self._file,
            last=last and self._part >= self._stream.seen,
        )
        self._run.ledger.commit(record)
        self._run.counts.add(0, 0, 1)

    def abandon(self) -> None:
        """The part is not finished: nothing of it is left."""
        gone = _Abandoned()
        for files in (self._quarantined, self._files):
            with contextlib.suppress(_Abandoned):
                files.__exit__(_Abandoned, gone, None)


class _Abandoned(Exception):
    """Tells a store that what was being written is not to appear."""


@dataclass(frozen=True, slots=True)
class _OpenStream:
    """A stream, and where its parts go."""

    run: _Run
    stream: PartStream

    def read(self) -> Iterator[Any]:
        return self.stream.read()

    def output(self, part: int) -> _PartOutput:
        return _PartOutput(self.run, self.stream, part)


def run(
    package: Package,
    prepared: Prepared,
    options: BatchOptions,
    hook: Hook,
    *,
    every_s: float = 0.5,
) -> Report:
    """Do what is left of a job, and report. Raises what ends it; what was committed stays."""
    manifest = package.manifest
    now = datetime.now(UTC).isoformat()
    job = Job(prepared.sources, manifest.name, manifest.version, digest_of(package), options, now)
    store = open_store(_hidden(prepared.output) if prepared.single else prepared.output)
    with open_ledger(store, job) as ledger:
        counts = Counts(prepared, ledger)
        shared = _Run(prepared, options, store, ledger, counts)
        answers = answers_of(
            package, options, prepared.style, datetime.fromisoformat(ledger.predicted_at)
        )

        def scorer() -> Scorer:
            loaded = fleet.load(package, kind=ExecutorKind.THREAD)
            predict = loaded.predict
            if manifest.steps[-1].runtime == "onnx":
                predict = in_blocks(predict, _BLOCK_ROWS)
            first_only = options.on_bad_row == "fail"
            return Scorer(loaded.signature, predict, answers, first_only=first_only)

        streams = [_OpenStream(shared, stream) for stream in _streams(prepared, ledger)]
        if streams:

            def tick() -> None:
                ledger.held()
                hook(counts.progress())

            Workers(streams, scorer, workers=options.threads).run(tick, every_s)
        report = _reported(shared, manifest.name, manifest.version)
        if prepared.single:
            _join(shared)
        else:
            ledger.finish(report.describe())
    return report


def _join(run: _Run) -> None:
    """Make the one file of all parts, and leave nothing beside it but what was quarantined."""
    prepared, store = run.prepared, run.store
    folder, _, name = prepared.output.rpartition("/")
    beside = open_store(folder or ("/" if prepared.output.startswith("/") else "."))
    beside.sweep(name)
    records = sorted(run.ledger.done.values(), key=lambda one: (one.source, one.start))
    bad = [f"{QUARANTINE}/{record.part}.ndjson" for record in records if record.bad]
    if bad and run.options.on_bad_row == "quarantine":
        with beside.writing(_quarantine_of(name)) as file:
            for part in bad:
                file.write(store.read(part))
    with beside.writing(name) as file:
        parts = (functools.partial(store.open, record.file) for record in records)
        join(prepared.style, parts, file, prepared.plan.schema)
        run.ledger.held()
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
        "steps": [(step.runtime, step.files, step.options) for step in manifest.steps],
        "signature": manifest.signature.describe(),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _hidden(output: str) -> str:
    """The folder of a single file's parts."""
    folder, slash, name = output.rpartition("/")
    return f"{folder}{slash}.{name}.parts"


def _reported(run: _Run, model: str, version: str) -> Report:
    done, progress = run.ledger.done.values(), run.counts.progress()
    output = run.prepared.output
    single = run.prepared.single
    quarantine = _quarantine_of(output) if single else f"{output.rstrip('/')}/{QUARANTINE}"
    bad = sum(record.bad for record in done)
    return Report(
        output=output,
        model=model,
        version=version,
        predicted_at=run.ledger.predicted_at,
        files=len({stretch.source for stretch in run.prepared.stretches}),
        rows_in=sum(record.rows + record.bad for record in done),
        rows_scored=sum(record.rows for record in done),
        bad_rows=bad,
        parts=len(done),
        parts_before=progress.parts_before,
        rows_before=progress.rows_before,
        seconds=progress.seconds,
        rows_per_s=progress.rows_per_s,
        quarantine=quarantine if bad and run.options.on_bad_row == "quarantine" else None,
    )
