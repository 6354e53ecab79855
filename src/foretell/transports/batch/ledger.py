"""A ledger is what a job has done: its folder `_foretell/` in the output, a record for each part.

Rules:

1. `job.json` says which job it is, and is there before anything else. Another job is refused,
   unless it is to overwrite: then all that the former one wrote goes first, and nothing else.
2. A part is done when its record can be read and its file is there. All others are done anew.
3. Where files lie that this job did not write, no job begins: who reads the folder would read
   them, too. Without `job.json` that holds for parts as well: nobody knows whose they are.
4. `_SUCCESS` comes last. A job that has it is done; when a part is lost, it goes until all is done.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foretell.errors import JobRefused
from foretell.transports.batch.dataset import folder_of, form_of, some_of
from foretell.transports.batch.job import Job, changes, described
from foretell.transports.batch.storage import Lock, Store
from foretell.transports.batch.storage.clouds import is_url

FOLDER = "_foretell/"
QUARANTINE = "_quarantine"
SUCCESS = "_SUCCESS"
_JOB = f"{FOLDER}job.json"
_DONE = f"{FOLDER}done/"
_PART = re.compile(r"part-\d{5,}-\d{5,}\.[a-z.]+")
_TORN = f"its {_JOB} cannot be read"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What was done: rows `start` to `stop` of a source; `last`: its source has no more."""

    part: str
    source: int
    start: int
    stop: int | None
    rows: int
    bad: int
    file: str
    last: bool


def put_record(store: Store, record: PartRecord) -> None:
    """Make a part done. Its files are in place already."""
    store.put(f"{_DONE}{record.part}.json", json.dumps(asdict(record)).encode())


class Ledger:
    """The record of one job, which holds the lock of its output."""

    def __init__(self, store: Store, lock: Lock, job: Mapping[str, Any]) -> None:
        self._store = store
        self._lock = lock
        self.predicted_at: str = job["predicted_at"]
        self.bulk = bool(job["bulk"])
        self.done: dict[str, PartRecord] = {}
        self.is_finished = False
        self.refresh()

    def held(self) -> None:
        """Return if the output is this job's still. Raises JobRefused, StoreFailed."""
        self._lock.held()

    def refresh(self) -> None:
        """Read what was done, whoever has done it."""
        names = set(self._store.names())
        # What is known is not read again.
        for part in [part for part, record in self.done.items() if record.file not in names]:
            del self.done[part]
        unknown = {name for name in names if name.startswith(_DONE)}
        unknown -= {f"{_DONE}{part}.json" for part in self.done}
        for text in self._store.read_all(sorted(unknown)).values():
            record = _record(text)
            if record is not None and record.file in names:
                self.done[record.part] = record
        self.is_finished = SUCCESS in names

    def reopen(self) -> None:
        """Something is left to be done: whoever waits for `_SUCCESS` has to wait again."""
        if self.is_finished:
            self._lock.held()
            self._store.remove(SUCCESS)
            self.is_finished = False

    def commit(self, record: PartRecord) -> None:
        """Make a part done. Raises JobRefused, StoreFailed when the output is not ours any more."""
        self._lock.held()
        put_record(self._store, record)
        self.done[record.part] = record

    def finish(self, report: Mapping[str, Any]) -> None:
        """Say that all is done, unless it was said before."""
        if not self.is_finished:
            self._lock.held()
            self._store.put(SUCCESS, json.dumps(dict(report)).encode())
            self.is_finished = True


def check_outside(output: str) -> None:
    """Raise JobRefused where `output` lies in that of another job: its readers would read both.

    It is looked for on disks only: the right to read above an output is rare in stores.
    """
    if is_url(output):
        return
    path = Path(os.path.realpath(output))
    for folder in path.parents:
        is_hidden = any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
        if not is_hidden and os.path.isfile(folder / _JOB):
            raise JobRefused(
                f"{output} lies in {folder}, where another job's work is, and would be read with "
                "it: name an OUTPUT beside it"
            )


@contextmanager
def open_ledger(store: Store, job: Job) -> Iterator[Ledger]:
    """The ledger of a job's output, which is locked meanwhile. Raises JobRefused, StoreFailed."""
    with store.lock() as lock:
        new = json.loads(json.dumps(described(job)))
        old = _written(store)
        told = [_TORN] if old == {} else list(changes(old, new)) if old else []
        if old is not None and told:
            if not job.options.overwrite:
                raise JobRefused(
                    f"{store.place} holds another job's work: {'; '.join(told)}. Name another "
                    "OUTPUT, or have it removed with --overwrite"
                )
            _remove(store, old)
            old = None
        if old is None:
            _check_empty(store)
            lock.held()
            store.create(_JOB, json.dumps(new, indent=1).encode())
            old = new
        yield Ledger(store, lock, old)


def _written(store: Store) -> dict[str, Any] | None:
    """The job that was begun here; {} when it cannot be read."""
    try:
        told = json.loads(store.read(_JOB))
    except KeyError:
        return None
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _record(text: bytes) -> PartRecord | None:
    """A record; None when it is torn, or has other keys: its part is done anew."""
    try:
        return PartRecord(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _check_empty(store: Store) -> None:
    names = list(store.names())
    others = [*_visible(names), *(name for name in names if name == SUCCESS)]
    if others:
        raise JobRefused(
            f"{store.place} has files that are not this job's ({some_of(others)}), which would be "
            "read with what comes out: name an OUTPUT of its own"
        )


def _visible(names: Collection[str] | Iterator[str]) -> Iterator[str]:
    """The names that those who read the folder would read."""
    for name in names:
        hidden = any(part.startswith(("_", ".")) for part in name.split("/"))
        if not hidden and form_of(name) is not None:
            yield name


def _remove(store: Store, old: Mapping[str, Any]) -> None:
    """Remove what the `old` job wrote; killed in between, it is removed the next time."""
    store.remove(SUCCESS)
    names = list(store.names())
    records = [name for name in names if name.startswith(_DONE)]
    told = (_record(text) for text in store.read_all(records).values())
    written = {record.file for record in told if record is not None}
    folders = {"", *(folder_of(one.get("partition", ())) for one in old.get("sources", ()))}
    for name in names:
        folder, slash, file = name.rpartition("/")
        is_part = f"{folder}{slash}" in folders and _PART.fullmatch(file)
        if name in written or is_part or name.startswith(f"{QUARANTINE}/"):
            store.remove(name)
    for name in [*records, _JOB]:
        store.remove(name)
