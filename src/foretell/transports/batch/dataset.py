"""A data set is the files of a job's input: a file, a folder, or a pattern; here or in a store.

Rules:

1. Names that begin with `_` or `.` are left out, of files and of folders, unless the person named
   the file itself: other programs keep their own records there.
2. Files are in the order of their names, folder by folder.
3. Folders named `key=value`, below the one that the person named, tell a column.
4. All files have one form, which the ends of their names tell. What has none is not skipped: its
   rows would be lost.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import quote, unquote

from foretell.errors import BadSettings, InvalidInput, StoreFailed
from foretell.transports.batch.storage import clouds
from foretell.transports.batch.storage.failures import failing


class Form(StrEnum):
    """How a file holds its rows."""

    PARQUET = "parquet"
    CSV = "csv"
    NDJSON = "ndjson"
    ARROW = "arrow"


FORMS = {
    ".parquet": Form.PARQUET,
    ".pq": Form.PARQUET,
    ".csv": Form.CSV,
    ".ndjson": Form.NDJSON,
    ".jsonl": Form.NDJSON,
    ".arrow": Form.ARROW,
    ".feather": Form.ARROW,
    ".ipc": Form.ARROW,
}
_PACKED = ".gz"
_MAY_BE_PACKED = (Form.CSV, Form.NDJSON)
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Source:
    """A file, as it was when it was found: `stamp` is another one when it was written since.

    `partition` has the keys and values that the folder tells.
    """

    path: str
    size: int
    stamp: str
    form: Form
    partition: tuple[tuple[str, str], ...] = ()

    def open(self) -> BinaryIO:
        """The bytes, unpacked. Raises StoreFailed, also when the file was replaced since."""
        file = self._opened()
        if self.path.lower().endswith(_PACKED):
            return cast("BinaryIO", _Unpacked(file))
        return file

    @contextmanager
    def reading(self) -> Iterator[BinaryIO]:
        """The same, to be read to some end: what was read is what was found.

        Raises StoreFailed when the file was written to meanwhile, whatever else was noticed of it.
        """
        with self.open() as file:
            if clouds.is_url(self.path):  # objects are replaced as wholes
                yield file
                return
            same = os.dup(file.fileno())  # some readers close what they have read
            try:
                yield file
            except Exception:
                self._check(same)
                raise
            else:
                self._check(same)
            finally:
                os.close(same)

    def _check(self, opened: int) -> None:
        if _stamp(os.fstat(opened)) != self.stamp:
            raise StoreFailed(f"{self.path} was written anew while the job ran: start it afresh")

    def _opened(self) -> BinaryIO:
        if clouds.is_url(self.path):
            try:
                return clouds.opened(self.path, self.stamp)
            except KeyError:
                raise StoreFailed(f"{self.path} is not there any more") from None
        with failing(self.path, reading=True):
            file = open(self.path, "rb")  # noqa: SIM115 - the caller closes it
        try:
            self._check(file.fileno())
        except StoreFailed:
            file.close()
            raise
        return file


class _Found(NamedTuple):
    """A file, and its name below the folder that was named; none where the file itself was."""

    path: str
    name: str
    size: int
    stamp: str


def find(place: str) -> tuple[Source, ...]:
    """The files of a file, a folder or a pattern, in order. Raises InvalidInput, StoreFailed."""
    found = list(_in_store(place) if clouds.is_url(place) else _here(place))
    wanted = [one for one in found if not _is_hidden(one.name)]
    if not wanted:
        raise InvalidInput(f"{place} has no files{_why(place, found)}")
    forms = {one: form_of(one.path) for one in wanted}
    _check(place, [one.path for one, form in forms.items() if form is None], set(forms.values()))
    sources = [
        Source(one.path, one.size, one.stamp, form, _partition(one.name))
        for one, form in forms.items()
        if form is not None
    ]
    return tuple(sorted(sources, key=lambda source: source.path.split("/")))


def check_apart(place: str, sources: Sequence[Source], output: str) -> None:
    """Raise BadSettings when the job would write over its input, or the next run would find it."""
    if clouds.is_url(place) != clouds.is_url(output):
        return
    target = _real(output)
    for source in sources:
        path = _real(source.path)
        if path == target or path.startswith(f"{target}/"):
            raise BadSettings(f"{output} has files of INPUT, as {source.path}: name another OUTPUT")
    if any(_would_find(place, one) for one in (_plain(output), target)):
        raise BadSettings(
            f"{output} lies in INPUT, where the next run would read it, too: name another OUTPUT, "
            "or begin the name of its folder with _"
        )


def _plain(place: str) -> str:
    """A place under one name, whether or not it was said from here."""
    return place.rstrip("/") if clouds.is_url(place) else os.path.abspath(place)


def _real(place: str) -> str:
    """A place under the name that it has without links."""
    return place.rstrip("/") if clouds.is_url(place) else os.path.realpath(place)


def _would_find(place: str, target: str) -> bool:
    """Whether a run whose INPUT is `place` would find what lies at, or below, `target`."""
    if not _WILD.search(place) or (not clouds.is_url(place) and os.path.exists(place)):
        bases = (_plain(place), _real(place))
        return any(
            target.startswith(f"{base}/") and not _is_hidden(target[len(base) + 1 :])
            for base in bases
        )
    head, slash, _ = _WILD.split(place)[0].rpartition("/")
    base = _plain(head or slash).rstrip("/")
    if not target.startswith(f"{base}/") or _is_hidden(target[len(base) + 1 :]):
        return False
    path = PurePosixPath(clouds.key_of(target) if clouds.is_url(target) else target)
    fits = _pattern(place) if clouds.is_url(place) else _pattern_here(_plain(place))
    return any(fits.fullmatch(str(one)) for one in (path, *path.parents))


def _pattern_here(place: str) -> re.Pattern[str]:
    """What `glob` takes a pattern of this machine's files for."""
    *folders, last = place.split("/")
    told = ("(?:[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in folders)
    return re.compile("".join(told) + (".*" if last == "**" else _part(last)))


def _part(part: str) -> str:
    """The pattern of one name, of which `*` is no border."""
    told = fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
    return ("" if part.startswith(".") else r"(?!\.)") + told.replace(".*", "[^/]*")


def folder_of(partition: Sequence[Sequence[str]]) -> str:
    """The folders that keys and values make: `region=eu/day=3/`."""
    return "".join(f"{quote(key, safe='')}={quote(value, safe='')}/" for key, value in partition)


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def form_of(path: str) -> Form | None:
    """The form that the end of a name tells; None when it tells none."""
    name = PurePosixPath(path.lower())
    if name.suffix == _PACKED:
        form = FORMS.get(PurePosixPath(name.stem).suffix)
        return form if form in _MAY_BE_PACKED else None
    return FORMS.get(name.suffix)


def _check(place: str, unknown: list[str], forms: set[Form | None]) -> None:
    if unknown:
        raise InvalidInput(
            f"the names of {some_of(unknown)} tell no form (there are {', '.join(FORMS)}; text "
            "also with .gz): rename them, or name the others with a pattern, as in "
            "'folder/*.parquet'"
        )
    if len(forms) > 1:
        told = " and ".join(sorted(map(str, forms)))
        raise InvalidInput(
            f"{place} has files of {told}: name those of one form with a pattern, "
            "as in 'folder/*.parquet'"
        )


def _why(place: str, found: list[_Found]) -> str:
    if found:
        return f" but {len(found)} whose names begin with _ or .: name one itself to read it"
    if clouds.is_url(place) or _WILD.search(place) or Path(place).exists():
        return ""
    return ": it does not exist"


def _here(place: str) -> Iterator[_Found]:
    if os.path.isfile(place):
        yield _local(place, "")
        return
    if not _WILD.search(place) or os.path.isdir(place):
        base, tops = place, [place] if os.path.lexists(place) else []
    else:
        base = _WILD.split(place)[0].rpartition("/")[0] or ("/" if place[0] == "/" else ".")
        tops = glob.glob(place, recursive=True)
    with failing(place, reading=True):
        paths = {
            os.path.normpath(path)
            for top in tops
            for path in (_below(top) if os.path.isdir(top) else (top,))
        }
        for path in paths:
            yield _local(path, os.path.relpath(path, base))


def _below(top: str) -> Iterator[str]:
    """All files below a folder, also behind links, but each folder once. Raises OSError."""

    def fail(error: OSError) -> None:
        raise error

    seen = {os.path.realpath(top)}
    for folder, folders, names in os.walk(top, onerror=fail, followlinks=True):
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in folders}
        folders[:] = [name for name in folders if real[name] not in seen]
        seen.update(real.values())
        yield from (os.path.join(folder, name) for name in names)


def _local(path: str, name: str) -> _Found:
    with failing(path, reading=True):
        stat_ = os.stat(path)
    if not stat.S_ISREG(stat_.st_mode):
        raise InvalidInput(f"{path} is not a regular file, and cannot be read twice")
    return _Found(path, name, stat_.st_size, _stamp(stat_))


def _stamp(told: os.stat_result) -> str:
    return str(told.st_mtime_ns)


def _in_store(place: str) -> Iterator[_Found]:
    is_wild = _WILD.search(place) is not None
    base, _, start = (
        _WILD.split(place)[0].rpartition("/") if is_wild else (place.rstrip("/"), "", "")
    )
    if base.endswith(":/"):
        raise InvalidInput(f"{place} leaves the bucket open: name it")
    fits = _pattern(place) if is_wild else None
    for one in clouds.listed(base, start):
        path = PurePosixPath(clouds.key_of(one.url))
        if one.url.endswith("/"):  # consoles make such empty objects for folders
            continue
        # A pattern may fit the file, or a folder that it is in.
        if fits is None or any(fits.fullmatch(str(told)) for told in (path, *path.parents)):
            yield _Found(one.url, one.url[len(base) + 1 :], one.size, one.stamp)


def _pattern(place: str) -> re.Pattern[str]:
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(clouds.key_of(place)))


def _is_hidden(name: str) -> bool:
    *folders, file = name.split("/")
    parts = [folder for folder in folders if "=" not in folder or folder.startswith(".")]
    return any(part.startswith(("_", ".")) for part in (*parts, file))


def _partition(name: str) -> tuple[tuple[str, str], ...]:
    pairs = (folder.partition("=") for folder in name.split("/")[:-1])
    return tuple((unquote(key), unquote(value)) for key, equals, value in pairs if key and equals)


class _Unpacked(gzip.GzipFile):
    """What is in a file of gzip, which is closed with it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._packed = file

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._packed.close()
