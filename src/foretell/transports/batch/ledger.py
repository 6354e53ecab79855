"""A ledger is what a job has done: its folder in the output, a record for each part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from foretell.errors import InvalidInput
from foretell.transports.batch.job import Job, changes, described
from foretell.transports.batch.storage import Lock, Store

_DONE = "_foretell/done/"


@dataclass(frozen=True, slots=True)
class PartRecord:
    part: str
    source: int
    start: int
    stop: int | None
    rows: int
    bad: int
    file: str
    last: bool


class Ledger:
    def __init__(
        self, store: Store, lock: Lock, predicted_at: str, done: dict[str, PartRecord]
    ) -> None:
        self._store = store
        self._lock = lock
        self.predicted_at = predicted_at
        self.done = done

    def commit(self, record: PartRecord) -> None:
        self._lock.held()
        put_record(self._store, record)
        self.done[record.part] = record

    def refresh(self) -> list[PartRecord]:
        """The records that others wrote since; they are in `done` from now on."""
        self._lock.held()
        names = list(self._store.names(_DONE))
        known = {f"{_DONE}{part}.json" for part in self.done}
        found = [_record_of(self._store.read(name)) for name in names if name not in known]
        self.done.update((record.part, record) for record in found)
        return found

    def finish(self, report: Mapping[str, Any]) -> None:
        self._store.put("_SUCCESS", json.dumps(dict(report)).encode())


def put_record(store: Store, record: PartRecord) -> None:
    """Write down that a part is done."""
    store.put(f"{_DONE}{record.part}.json", json.dumps(asdict(record)).encode())


def _record_of(text: bytes) -> PartRecord:
    return PartRecord(**json.loads(text))


@contextmanager
def open_ledger(store: Store, job: Job) -> Iterator[Ledger]:
    with store.lock() as lock:
        new = json.loads(json.dumps(described(job)))
        try:
            old = json.loads(store.read("_foretell/job.json"))
        except KeyError:
            store.put("_foretell/job.json", json.dumps(new).encode())
            old = new
        if told := list(changes(old, new)):
            raise InvalidInput("; ".join(told))
        done = {}
        for name in store.names(_DONE):
            record = _record_of(store.read(name))
            done[record.part] = record
        yield Ledger(store, lock, old["predicted_at"], done)
