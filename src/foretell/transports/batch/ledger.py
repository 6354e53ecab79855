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
        self._store.put(f"_foretell/done/{record.part}.json", json.dumps(asdict(record)).encode())
        self.done[record.part] = record

    def finish(self, report: Mapping[str, Any]) -> None:
        self._store.put("_SUCCESS", json.dumps(dict(report)).encode())


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
        for name in store.names("_foretell/done/"):
            record = PartRecord(**json.loads(store.read(name)))
            done[record.part] = record
        yield Ledger(store, lock, old["predicted_at"], done)
