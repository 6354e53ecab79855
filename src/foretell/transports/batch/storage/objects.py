"""An object store keeps files as objects: each appears when its upload is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from foretell.transports.batch.storage import clouds
from foretell.transports.batch.storage.clouds import Upload
from foretell.transports.batch.storage.failures import codes_of, failing
from foretell.transports.batch.storage.leases import FOLDER, LEASE_S, leased
from foretell.transports.batch.storage.store import Lock

_AT_ONCE = 16
_TAKEN = frozenset({"FileExistsError", "PreconditionFailed", 412, "ConditionalRequestConflict"})


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The objects below a URL."""

    place: str
    lease_s: float = LEASE_S

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names of all objects that begin with `prefix`, in order."""
        folder = prefix.rpartition("/")[0]
        root = f"{self.place}/"
        found = clouds.listed(self._url(folder) if folder else self.place)
        names = (one.url.removeprefix(root) for one in found if one.url.startswith(root))
        yield from sorted(name for name in names if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        """What is in an object. Raises KeyError."""
        url = self._url(name)
        with failing(url, reading=True):
            try:
                return bytes(self._library.cat_file(clouds.key_of(url)))
            except FileNotFoundError:
                pass
        raise KeyError(name)

    def read_all(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """What is in several objects; those that are not there are left out."""
        found: dict[str, bytes] = {}

        def read(name: str) -> None:
            with suppress(KeyError):
                found[name] = self.read(name)

        _at_once(read, names)
        return found

    def open(self, name: str) -> BinaryIO:
        """An object to be read anywhere. Raises KeyError."""
        return clouds.opened(self._url(name))

    def put(self, name: str, data: bytes) -> None:
        """Write an object, or replace it."""
        url = self._url(name)
        with failing(url):
            self._library.pipe_file(clouds.key_of(url), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one; the store decides which of many wins."""
        url = self._url(name)
        with failing(url):
            try:
                self._library.pipe_file(clouds.key_of(url), data, mode="create")
            except OSError as error:
                if codes_of(error) & _TAKEN:
                    return False
                raise
        return True

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """An object to be written: it appears when the block ends well."""
        upload = Upload(self._url(name))
        try:
            yield cast("BinaryIO", upload)
            upload.commit()
        except BaseException:
            upload.abandon()
            raise

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        url = self._url(name)
        with failing(url), suppress(FileNotFoundError):
            self._library.rm_file(clouds.key_of(url))

    def sweep(self, name: str | None = None) -> None:
        """End uploads of killed writers of `name`, or of all names below."""
        clouds.abort_uploads(self.place if name is None else self._url(name), below=name is None)

    def clear(self) -> None:
        """Remove all objects but leases, which go when they are given back."""
        _at_once(self.remove, (name for name in self.names() if not name.startswith(FOLDER)))

    @contextmanager
    def lock(self) -> Iterator[Lock]:
        """The right to change it, as a lease. Raises JobRefused."""
        with leased(self, self.lease_s) as lease:
            self.sweep()
            yield lease

    @property
    def _library(self) -> Any:
        return clouds.filesystem(self.place)

    def _url(self, name: str) -> str:
        return f"{self.place}/{name}"


def _at_once(do: Callable[[str], None], names: Iterable[str]) -> None:
    """Do it for all names, some at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(do, names):
            pass
