"""Committing is what makes a part's rows last: the quarantined ones, the data, then the record.

A part is done when its record is there; whatever else lies about is written again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import msgspec

from foretell.errors import InvalidInput
from foretell.transports.batch.dataset import folder_of
from foretell.transports.batch.job import BatchOptions
from foretell.transports.batch.ledger import QUARANTINE, PartRecord
from foretell.transports.batch.parts import PartStream, name_of
from foretell.transports.batch.preparing import Prepared
from foretell.transports.batch.reading.typed import row_of
from foretell.transports.batch.scoring.scorer import Bad, Scored
from foretell.transports.batch.storage import Store
from foretell.transports.batch.writing import RowWriter, rows_of

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Records(Protocol):
    """Where it is written down that a part is done."""

    def held(self) -> None:
        """Return if the output is this job's still: before files take their place. Raises."""
        ...

    def commit(self, record: PartRecord) -> None:
        """The part's files are in place."""
        ...


class Tally(Protocol):
    """Who wants to know how far a job is."""

    def add(self, rows: int, bad: int, parts: int) -> None:
        """So many more rows, of which so many are bad, and parts."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """What all parts of a run share."""

    prepared: Prepared
    options: BatchOptions
    store: Store
    records: Records
    tally: Tally


class PartOutput:
    """Where the rows of one part go."""

    def __init__(self, run: Run, stream: PartStream, part: int) -> None:
        self._run = run
        self._stream = stream
        self._part = part
        name = name_of(stream.stretch.source, part)
        folder = "" if run.prepared.single else folder_of(stream.source.partition)
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
        self._run.tally.add(scored.n_rows, len(scored.bad), 0)

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
            data = told.raw if bad.values is None else row_of(bad.values)
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
        self._run.records.held()  # whoever slept until another job had the output spoils it
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
        self._run.records.commit(record)
        self._run.tally.add(0, 0, 1)

    def abandon(self) -> None:
        """The part is not finished: nothing of it is left."""
        gone = _Abandoned()
        for files in (self._quarantined, self._files):
            with contextlib.suppress(_Abandoned):
                files.__exit__(_Abandoned, gone, None)


class _Abandoned(Exception):
    """Tells a store that what was being written is not to appear."""


@dataclass(frozen=True, slots=True)
class CommittedStream:
    """A stream, and where its parts go."""

    run: Run
    stream: PartStream

    def read(self) -> Iterator[Any]:
        return self.stream.read()

    def output(self, part: int) -> PartOutput:
        return PartOutput(self.run, self.stream, part)
