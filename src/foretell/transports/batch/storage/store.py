"""A store is one folder where a job's files lie; names are below it, with `/` between their parts.

Rules, whatever it is that keeps the files:

1. A file appears whole or not at all, whenever its writer is killed.
2. Names begun and never finished are invisible, and swept away when nobody can be writing them.
3. All methods raise StoreFailed, with what one can do, and KeyError where a name is asked for that
   is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol


class Lock(Protocol):
    """The right to change what is in a store."""

    def held(self) -> None:
        """Return if it is held still. Raises JobRefused when it was lost, StoreFailed."""
        ...


class Store(Protocol):
    """One folder, which appears when something is put there. It can be pickled."""

    @property
    def place(self) -> str:
        """The folder, as a person would write it."""
        ...

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names of all files that begin with `prefix`, in order."""
        ...

    def read(self, name: str) -> bytes:
        """What is in a file. Raises KeyError."""
        ...

    def read_all(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """What is in several files; those that are not there are left out."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file to be read anywhere. Raises KeyError."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write a file, or replace it."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one; whether it was written. One of many wins."""
        ...

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to be written: it appears, or is replaced, when the block ends well."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def sweep(self, name: str | None = None) -> None:
        """Remove what killed writers of `name` left behind; None: of any name below."""
        ...

    def clear(self) -> None:
        """Remove all there is but the lock, which goes with the folder when it is given back."""
        ...

    def lock(self) -> AbstractContextManager[Lock]:
        """The right to change it, for one job at a time; sweeps it. Raises JobRefused."""
        ...
