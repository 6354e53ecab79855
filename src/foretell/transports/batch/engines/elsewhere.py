"""Work elsewhere: an order that other processes, on other machines, can do parts of.

Rules:

1. What such a process needs is in the order: the plan, the options, the package's files. It reads
   the input and writes the output itself, so both must be reachable from every machine.
2. It commits its parts as the local engine does. The process that runs the job reads the records
   to see how far it is; a part that is done twice is done once, because it replaces itself.
3. The first failure is written down beside the records, and ends the job everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from foretell.core.manifest import FILENAME
from foretell.engine import repository
from foretell.engine.repository import Package
from foretell.errors import (
    BadPackage,
    BadSettings,
    ForetellError,
    InvalidInput,
    JobRefused,
    MissingExtra,
    ModelFailed,
    NotFound,
    StartFailed,
    StoreFailed,
)
from foretell.transports.batch.committing import CommittedStream, Run, Tally
from foretell.transports.batch.engines.local import Workers
from foretell.transports.batch.job import BatchOptions
from foretell.transports.batch.ledger import Ledger, PartRecord, put_record
from foretell.transports.batch.parts import PartStream, name_of
from foretell.transports.batch.preparing import Prepared, answers_of
from foretell.transports.batch.scoring.loading import scorer_of
from foretell.transports.batch.storage import Store, open_store

FAILURE = "_foretell/failure.json"
_LOOK_EVERY_S = 2.0
_KINDS = {
    kind.code: kind
    for kind in (
        BadPackage,
        BadSettings,
        InvalidInput,
        JobRefused,
        MissingExtra,
        ModelFailed,
        NotFound,
        StoreFailed,
    )
}


@dataclass(frozen=True, slots=True)
class Order:
    """All that a process elsewhere needs to do parts of a job; it can be pickled.

    `place` is where the parts go. `folder`: that which relative paths start from.
    """

    prepared: Prepared
    options: BatchOptions
    package: dict[str, bytes]
    predicted_at: datetime
    bulk: bool
    place: str
    folder: str


class Engine(Protocol):
    """What runs an order on other processes."""

    def run(self, order: Order, streams: Sequence[PartStream]) -> None:
        """Have a `Deputy` do each of `streams`; returns when all are done, or one has failed."""
        ...

    def cancel(self) -> None:
        """End the work that is under way, from another thread."""
        ...


def files_of(package: Package) -> dict[str, bytes]:
    """The files of a package by name."""
    names = (FILENAME, *(file.path for file in package.manifest.files))
    return {name: (package.folder / name).read_bytes() for name in names}


def order_of(
    package: Package, prepared: Prepared, options: BatchOptions, ledger: Ledger, place: str
) -> Order:
    """The order of a job."""
    predicted_at = datetime.fromisoformat(ledger.predicted_at)
    files = files_of(package)
    return Order(prepared, options, files, predicted_at, ledger.bulk, place, os.getcwd())


class Unpacked:
    """A package that came as its files, in a folder that goes with this object."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="foretell-")
        root = Path(self._folder.name)
        for name, data in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.package = repository.read(root)


class _Records:
    """Writes records; whether the job is still ours is for the process that runs it to know."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def held(self) -> None:
        """Nobody knows here; Ray and Spark end what a job that lost its output has begun."""

    def commit(self, record: PartRecord) -> None:
        """Write it down."""
        put_record(self._store, record)


class _Nobody:
    """Counts for nobody: how far the job is, the records tell."""

    def add(self, rows: int, bad: int, parts: int) -> None:
        """Nothing."""


class Deputy:
    """Does streams of an order in this process, one at a time, with a model of its own."""

    def __init__(self, order: Order) -> None:
        with contextlib.suppress(FileNotFoundError):  # absolute paths and URLs need no folder
            os.chdir(order.folder)
        self._store = open_store(order.place)
        self._unpacked = Unpacked(order.package)
        package = self._unpacked.package
        answers = answers_of(package, order.options, order.prepared.style, order.predicted_at)
        self._scorer = scorer_of(package, order.options, answers, bulk=order.bulk)
        self._run = Run(
            order.prepared, order.options, self._store, _Records(self._store), _Nobody()
        )

    def do(self, stream: PartStream) -> None:
        """Score the parts of `stream` that are left, and commit each; a failure is written down."""
        try:
            streams = [CommittedStream(self._run, stream)]
            Workers(streams, lambda: contextlib.nullcontext(self._scorer), workers=1).run(
                _nothing, every_s=60
            )
        except Exception as error:  # noqa: BLE001 - it goes to the process that runs the job
            self._store.put(FAILURE, _failure_text(error))


def failed(engine: str, error: Exception) -> StartFailed:
    """What is said when an engine fails, not a part of the job."""
    told = str(error).strip().splitlines() or [type(error).__name__]
    return StartFailed(f"{engine} failed: {told[-1]}; its logs tell more")


def _nothing() -> None:
    """Nobody looks on here."""


def _failure_text(error: Exception) -> bytes:
    if isinstance(error, ForetellError):
        told = {
            "code": error.code,
            "message": error.message,
            "field": error.field,
            "row": error.row,
        }
    else:
        message = f"a worker failed: {type(error).__name__}: {error}"
        told = {"code": ModelFailed.code, "message": message}
    return json.dumps(told).encode()


class Elsewhere:
    """Runs an order on an engine, and follows it by its records."""

    def __init__(self, engine: Engine, order: Order, ledger: Ledger, tally: Tally) -> None:
        self._engine = engine
        self._order = order
        self._ledger = ledger
        self._tally = tally
        self._store = open_store(order.place)

    def run(self, streams: Sequence[PartStream], tick: Callable[[], None], every_s: float) -> None:
        """Until all is committed; meanwhile `tick` is called now and then, by this thread."""
        with contextlib.suppress(KeyError):
            self._store.read(FAILURE)
            self._store.remove(FAILURE)
        looked = time.monotonic()
        with ThreadPoolExecutor(1, "foretell-engine") as pool:
            work = pool.submit(self._engine.run, self._order, [_own(one) for one in streams])
            try:
                while wait([work], every_s).not_done:
                    if time.monotonic() - looked >= _LOOK_EVERY_S:
                        self._look()
                        looked = time.monotonic()
                    tick()
            except BaseException:
                self._engine.cancel()
                raise
        self._look()
        tick()
        work.result()

    def _look(self) -> None:
        """Count what was done since. Raises what a worker wrote down."""
        known = set(self._ledger.done)
        self._ledger.refresh()
        for part, record in self._ledger.done.items():
            if part not in known:
                self._tally.add(record.rows + record.bad, record.bad, 1)
        try:
            told = json.loads(self._store.read(FAILURE))
        except KeyError:
            return
        kind = _KINDS.get(told["code"], ModelFailed)
        raise kind(told["message"], field=told.get("field"), row=told.get("row"))


def _own(stream: PartStream) -> PartStream:
    """A stream that is told of its own source's parts only."""
    first, _, _ = name_of(stream.stretch.source, 0).rpartition("-")
    return replace(stream, done=frozenset(one for one in stream.done if one.startswith(first)))
