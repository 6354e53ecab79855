"""A local store keeps files in a folder of this machine, or of a disk that several share.

Rules:

1. A file is written under a hidden name of its own, brought to the disk, renamed, and its folder
   is brought to the disk: neither kill -9 nor a power cut leaves half of it.
2. Names of writers differ: two of them may write one file at a time, and the last one stays.
3. The lock is a lock of the system on a file: it ends with the process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from foretell.errors import JobRefused, StoreFailed
from foretell.transports.batch.storage.failures import failing
from foretell.transports.batch.storage.leases import claim, refusal
from foretell.transports.batch.storage.store import Lock

_LOCK = "_foretell/lock"
_BUFFER_BYTES = 2**20
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp")
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class _Raw(io.FileIO):
    """A file that is written; what fails is told in a sentence, whatever library writes it."""

    def __init__(self, path: Path, place: Path) -> None:
        self._place = place
        super().__init__(path, "x")

    def write(self, data: Any, /) -> int:
        with failing(str(self._place)):
            return super().write(data)


class _Flock:
    """The lock of the system on an open file."""

    def __init__(self, file: io.FileIO, path: Path) -> None:
        self._file = file
        self._path = path

    def held(self) -> None:
        """Return if it is held still. Raises JobRefused."""
        if not _is_same(self._file, self._path):
            raise JobRefused(f"{self._path} was removed: leave it alone while a job runs")


@dataclass(frozen=True, slots=True)
class LocalStore:
    """The files below a folder."""

    root: Path

    @property
    def place(self) -> str:
        """The folder's path."""
        return str(self.root)

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names of all files that begin with `prefix`, in order."""
        top = self.root / prefix.rpartition("/")[0]
        with failing(str(top), reading=True):
            names = [path.relative_to(self.root).as_posix() for path in files(top)]
        yield from sorted(
            name
            for name in names
            if name.startswith(prefix) and not _TEMPORARY.fullmatch(name.rpartition("/")[2])
        )

    def read(self, name: str) -> bytes:
        """What is in a file. Raises KeyError."""
        with self.open(name) as file, self._failing(name, reading=True):
            return file.read()

    def read_all(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """What is in several files; those that are not there are left out."""
        found: dict[str, bytes] = {}
        for name in names:
            with suppress(KeyError):
                found[name] = self.read(name)
        return found

    def open(self, name: str) -> BinaryIO:
        """A file to be read anywhere. Raises KeyError."""
        with self._failing(name, reading=True), suppress(*_NO_FILE):
            return (self.root / name).open("rb")
        raise KeyError(name)

    def put(self, name: str, data: bytes) -> None:
        """Write a file, or replace it."""
        with self.writing(name) as file:
            file.write(data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one; one of many wins."""
        path = self.root / name
        with self._temporary(name, data) as temporary, self._failing(name):
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if path.exists():  # nobody else looks at it now: the lock is ours
                    return False
                temporary.rename(path)
            _to_disk(path.parent)
        return True

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to be written: it appears when the block ends well."""
        path = self.root / name
        with self._open_temporary(name) as (temporary, file):
            yield file
            with self._failing(name):
                _finish(file)
                temporary.rename(path)
                _to_disk(path.parent)

    @contextmanager
    def _temporary(self, name: str, data: bytes) -> Iterator[Path]:
        """A file of another name with this in it."""
        with self._open_temporary(name) as (temporary, file):
            file.write(data)
            with self._failing(name):
                _finish(file)
            yield temporary

    @contextmanager
    def _open_temporary(self, name: str) -> Iterator[tuple[Path, BinaryIO]]:
        """A file of another name, which is gone in the end."""
        path = self.root / name
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        with self._failing(name):
            _make(path.parent)
            raw = _Raw(temporary, path)
        try:
            yield temporary, io.BufferedWriter(raw, _BUFFER_BYTES)
        finally:
            raw.close()  # before what is buffered: it is to go nowhere
            temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there, and folders that nothing is left in."""
        path = self.root / name
        with self._failing(name):
            path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root or not _removed(folder):
                break

    def sweep(self, name: str | None = None) -> None:
        """Remove temporary files of killed writers of `name`, or of all names below."""
        with self._failing(name or ""):
            if name is None:
                found = list(files(self.root))
            else:
                found = [path for path in (self.root / name).parent.iterdir() if path.is_file()]
            for path in found:
                told = _TEMPORARY.fullmatch(path.name)
                if told and (name is None or told[1] == name.rpartition("/")[2]):
                    path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all files but the lock, which goes with the folder when it is given back."""
        for name in list(self.names()):
            if name != _LOCK:
                self.remove(name)

    @contextmanager
    def lock(self) -> Iterator[Lock]:
        """The right to change it. Raises JobRefused."""
        path = self.root / _LOCK
        with self._failing(_LOCK):
            file = self._locked(path)
        with file:
            try:
                with self._failing(_LOCK):
                    file.truncate(0)
                    file.write(json.dumps(asdict(claim())).encode())
                self.sweep()
                yield _Flock(file, path)
            finally:
                if [*self.names()] == [_LOCK]:
                    self.remove(_LOCK)
                    _removed(self.root)

    def _locked(self, path: Path) -> io.FileIO:
        """The file, open and locked. Raises JobRefused, StoreFailed, OSError."""
        while True:
            _make(path.parent)
            with suppress(FileNotFoundError):  # another job has ended, and its folder with it
                file = path.open("a+b", buffering=0)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                    raise refusal(self.place, _told(path)) from None
                except OSError as error:
                    file.close()
                    told = f"{path} cannot be locked ({error.strerror})"
                    raise StoreFailed(f"{told}: name an OUTPUT on another disk") from error
                if _is_same(file, path):
                    return file
                file.close()

    @contextmanager
    def _failing(self, name: str, *, reading: bool = False) -> Iterator[None]:
        with failing(str(self.root / name), reading=reading):
            yield


def _told(path: Path) -> Mapping[str, Any]:
    """What the lock's owner has written down; nothing where it has not yet."""
    with suppress(ValueError, OSError):
        told = json.loads(path.read_bytes())
        return told if isinstance(told, dict) else {}
    return {}


def _is_same(file: io.FileIO, path: Path) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder; none where there is no such folder. Raises OSError."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for top, _, names in os.walk(folder, onerror=fail):
        for name in names:
            yield Path(top, name)


def _make(folder: Path) -> None:
    """Make a folder and those above it, each brought to the disk."""
    if not folder.is_dir():
        _make(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file") from None
        _to_disk(folder.parent)


def _removed(folder: Path) -> bool:
    """Remove a folder if there is nothing in it."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _to_disk(folder: Path) -> None:
    """Names in a folder outlive a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
