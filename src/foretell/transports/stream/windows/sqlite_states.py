"""Histories in a file of SQLite's, on the disk when `save` returns; one process has it."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from foretell.errors import StoreFailed
from foretell.transports.stream.windows.states import Kept

_TABLE = """
CREATE TABLE IF NOT EXISTS histories (
    name TEXT, key BLOB, saved_at REAL, history BLOB, PRIMARY KEY (name, key)
) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS oldest ON histories (name, saved_at)"
_LOAD = "SELECT history FROM histories WHERE name = ? AND key = ? AND saved_at >= ?"
_SAVE = "INSERT OR REPLACE INTO histories (name, key, saved_at, history) VALUES (?, ?, ?, ?)"
_FORGET_OLD = "DELETE FROM histories WHERE name = ? AND saved_at < ?"
_FORGET_MANY = """
DELETE FROM histories WHERE name = ? AND key IN (
    SELECT key FROM histories WHERE name = ? ORDER BY saved_at DESC LIMIT -1 OFFSET ?
)
"""
_FORGET_S = 10.0

Came = TypeVar("Came")


class SqliteStates:
    """The histories of one stream in the file at `path`."""

    def __init__(self, path: str, kept: Kept) -> None:
        self._path, self._kept, self._forget_at = path, kept, 0.0
        self._file = self._tried(self._opened)

    def _opened(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, timeout=1, isolation_level=None, check_same_thread=False)
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute("BEGIN IMMEDIATE")  # the lock is taken now, and kept
        file.execute(_TABLE)
        file.execute(_INDEX)
        file.execute("COMMIT")
        return file

    async def load(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return await asyncio.to_thread(self._tried, lambda: self._loaded(keys))

    def _loaded(self, keys: Sequence[bytes]) -> list[bytes | None]:
        name, least = self._kept.name, time.time() - self._kept.ttl_s
        found = (self._file.execute(_LOAD, (name, key, least)).fetchone() for key in keys)
        return [None if row is None else row[0] for row in found]

    async def save(self, told: Mapping[bytes, bytes]) -> None:
        await asyncio.to_thread(self._tried, lambda: self._saved(told))

    def _saved(self, told: Mapping[bytes, bytes]) -> None:
        now, name, file = time.time(), self._kept.name, self._file
        file.execute("BEGIN")
        try:
            file.executemany(_SAVE, ((name, key, now, history) for key, history in told.items()))
            if now >= self._forget_at:
                file.execute(_FORGET_OLD, (name, now - self._kept.ttl_s))
                file.execute(_FORGET_MANY, (name, name, self._kept.max_keys))
                self._forget_at = now + _FORGET_S
            file.execute("COMMIT")
        except sqlite3.Error:
            if file.in_transaction:
                file.execute("ROLLBACK")
            raise

    def _tried(self, work: Callable[[], Came]) -> Came:
        try:
            return work()
        except sqlite3.Error as error:
            hint = ""
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                hint = "; another stream has it: give each its own, or share redis://"
            raise StoreFailed(f"--state {self._path} cannot be used: {error}{hint}") from None

    async def close(self) -> None:
        self._file.close()
