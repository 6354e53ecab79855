"""A store is one folder where a job's files lie."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from foretell.errors import InvalidInput


class Lock(Protocol):
    def held(self) -> None: ...


class Store(Protocol):
    def names(self, prefix: str = "") -> Iterator[str]: ...
    def read(self, name: str) -> bytes: ...
    def put(self, name: str, data: bytes) -> None: ...
    def create(self, name: str, data: bytes) -> bool: ...
    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]: ...
    def remove(self, name: str) -> None: ...
    def open(self, name: str) -> BinaryIO: ...
    def clear(self) -> None: ...
    @contextmanager
    def lock(self) -> Iterator[Lock]: ...


class _Flock:
    def held(self) -> None:
        pass


class LocalStore:
    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, prefix: str = "") -> Iterator[str]:
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and name.startswith(prefix):
                yield name

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def put(self, name: str, data: bytes) -> None:
        with self.writing(name) as file:
            file.write(data)

    def create(self, name: str, data: bytes) -> bool:
        if (self.root / name).exists():
            return False
        self.put(name, data)
        return True

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def open(self, name: str) -> BinaryIO:
        return (self.root / name).open("rb")

    def clear(self) -> None:
        shutil.rmtree(self.root)

    @contextmanager
    def lock(self) -> Iterator[Lock]:
        path = self.root / "_foretell" / "lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InvalidInput("another job runs on this output") from None
            for left in list(self.root.rglob(".*.tmp")):
                left.unlink()
            yield _Flock()


def open_store(place: str) -> Store:
    return LocalStore(Path(place))
