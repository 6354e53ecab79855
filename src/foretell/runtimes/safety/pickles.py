"""A pickle is somebody's program: it is read through before any of it runs.

Rules:

1. The bytes are inspected first (`inspector`), every global judged (`allowlist`), and only
   then does joblib's own loader run, over the same bytes in memory.
2. While it runs, an audit hook judges every global again, at the moment it is looked up, and
   stops programs, threads and connections from being started, files from being changed and
   source text from being run. Should inspector and loader ever disagree about a file, nothing
   unjudged runs. One pickle loads at a time; the server's other threads go on, only those that
   were started meanwhile may start no program.
3. `trusted` leaves out both, because somebody said so at pack time.

What this stops is code. A forged model can still be wrong, slow, or crash the process: a tree
whose child indices point nowhere is a valid tree to every loader (skops says the same).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes.safety.allowlist import is_allowed
from foretell.runtimes.safety.inspector import Refused, find_globals
from foretell.runtimes.safety.objects import Global

_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_OPENERS: dict[str, tuple[tuple[bytes, ...], Callable[[io.BytesIO], Any]]] = {
    "gzip": ((b"\x1f\x8b",), lambda stream: gzip.GzipFile(fileobj=stream)),
    "bz2": ((b"BZ",), bz2.BZ2File),
    "xz": ((b"\xfd7zXZ\x00",), lzma.LZMAFile),
    "lzma": ((b"\x5d\x00",), lzma.LZMAFile),
}
_ADVICE = "if you made this file yourself, pack it with --trust"
_LZ4 = b"\x04\x22\x4d\x18"
_OLD_JOBLIB = b"ZF"
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What unpickling a damaged file raises."""

_FORBIDDEN = frozenset(
    (
        "_thread.start_new_thread",
        "ctypes.dlopen",
        "os.chmod",
        "os.chown",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.kill",
        "os.link",
        "os.mkdir",
        "os.posix_spawn",
        "os.putenv",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.startfile",
        "os.symlink",
        "os.system",
        "os.truncate",
        "os.unsetenv",
        "pty.spawn",
        "shutil.rmtree",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.sendto",
        "subprocess.Popen",
        "sys.addaudithook",
        "sys.setprofile",
        "sys.settrace",
        "webbrowser.open",
    )
)
_SOURCE = frozenset(("compile", "exec", "ctypes.dlopen", "_thread.start_new_thread"))
_IMPORTING = "<frozen importlib._bootstrap>"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PROGRAMS = frozenset(
    ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "pty.spawn")
) | {"subprocess.Popen"}


@dataclass(frozen=True, slots=True)
class _Watch:
    """One load: its file, its thread, and the threads there were before."""

    path: Path
    thread: int
    others: frozenset[int]


_watched: list[_Watch] = []
_one_at_a_time = threading.Lock()


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PickleReport:
    """What a pickle names, before any of it has run."""

    compression: str | None
    globals: tuple[Global, ...]
    refused: tuple[Global, ...]
    top: Global | None


def inspect_pickle(path: Path) -> PickleReport:
    """What the pickle (or joblib file) at `path` names. Raises BadPackage when unreadable."""
    return _inspect(path, *_read(path))


def load_pickle(path: Path, *, trusted: bool = False) -> Any:
    """The object in the pickle (or joblib file) at `path`.

    Raises BadPackage when it names a global that no model needs, unless `trusted`, and when
    it cannot be read; MissingExtra without joblib.
    """
    try:
        import joblib
    except ImportError as error:
        raise MissingExtra(
            f"install foretell[sklearn] to read {path.name}: joblib is missing"
        ) from error
    raw, compression = _read(path)
    if trusted:
        return _joblib_load(joblib, path, raw)
    report = _inspect(path, raw, compression)
    if report.refused:
        raise refusal(path, report.refused[0])
    with _watching(path):
        return _joblib_load(joblib, path, raw)


def refusal(path: Path, found: Global) -> BadPackage:
    """The error that says why `found` keeps the file at `path` from being loaded."""
    module, name = found
    if module == "__main__":
        return BadPackage(
            f"{path.name} wants {name} from the script or notebook that saved it, which exists "
            f"nowhere else: move {name} into a module that can be imported when serving, save "
            "the model again, and pack it with --trust"
        )
    root = module.partition(".")[0]
    if root in ("sklearn", "xgboost", "lightgbm") and not _is_installed(root):
        return BadPackage(f"{path.name} needs {root}: install foretell[{root}]")
    return BadPackage(f"{path.name} wants {_spoken(found)}, which no model needs; {_ADVICE}")


def _spoken(found: Global) -> str:
    return ".".join(part.encode("unicode_escape").decode()[:80] for part in found)


def _is_installed(root: str) -> bool:
    from importlib.util import find_spec

    return find_spec(root) is not None


def _inspect(path: Path, raw: bytes, compression: str | None) -> PickleReport:
    try:
        found, top = find_globals(raw)
    except Refused as error:
        for part in error.found:
            if not is_allowed(*part):
                raise refusal(path, part) from error
        advice = "" if error.final else f"; {_ADVICE}"
        raise BadPackage(f"{path.name} {error}{advice}") from error
    except _BROKEN as error:
        if not raw:
            raise BadPackage(f"{path.name} is empty") from error
        raise BadPackage(f"{path.name} is not a readable pickle: {_said(error)}") from error
    refused = tuple(part for part in found if not is_allowed(*part))
    return PickleReport(compression, tuple(found), refused, top)


def _said(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return str(error) or "it ends too early"
    return str(error) or type(error).__name__


def _joblib_load(joblib: Any, path: Path, raw: bytes) -> Any:
    try:
        return joblib.load(io.BytesIO(raw))
    except _BROKEN as error:
        raise BadPackage(f"{path.name} cannot be loaded: {_said(error)}") from error


def _read(path: Path) -> tuple[bytes, str | None]:
    """The pickle's bytes, decompressed, and how they were compressed."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadPackage(f"{path.name} cannot be read: {error.strerror}") from error
    unpacked, compression = _decompress(path, raw)
    if compression is not None and _decompress(path, unpacked)[1] is not None:
        raise BadPackage(f"{path.name} is compressed twice, which no model is")
    return unpacked, compression


def _decompress(path: Path, raw: bytes) -> tuple[bytes, str | None]:
    if raw.startswith(_LZ4):
        raise BadPackage(
            f"{path.name} is compressed with lz4; save it with joblib.dump(model, path, compress=3)"
        )
    if raw.startswith(_OLD_JOBLIB):
        raise BadPackage(
            f"{path.name} was made by joblib before 0.10; load it there and save it again"
        )
    limit = max(256 << 20, 100 * len(raw))
    try:
        if raw.startswith(_ZLIB):
            return _limited(path, _ZlibReader(raw), limit), "zlib"
        for compression, (magics, opener) in _OPENERS.items():
            if raw.startswith(magics):
                return _limited(path, opener(io.BytesIO(raw)), limit), compression
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadPackage(f"{path.name} is a damaged compressed file: {_said(error)}") from error
    return raw, None


class _ZlibReader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def read(self, size: int = -1, /) -> bytes:
        reader = zlib.decompressobj()
        unpacked = reader.decompress(self._raw, max(size, 0))
        if not reader.eof and len(unpacked) < size:
            raise EOFError("it ends too early")
        return unpacked


def _limited(path: Path, stream: _Readable, limit: int) -> bytes:
    unpacked = stream.read(limit + 1)
    if len(unpacked) > limit:
        raise BadPackage(
            f"{path.name} unpacks to more than {limit >> 20} MiB; if you made this file yourself, "
            "save it uncompressed"
        )
    return unpacked


@contextmanager
def _watching(path: Path) -> Iterator[None]:
    """Judge every global that this thread's unpicklers look up, as long as it lasts."""
    _install_hook()
    with _one_at_a_time:
        writing, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        _watched.append(_Watch(path, threading.get_ident(), frozenset(sys._current_frames())))
        try:
            yield
        finally:
            _watched.clear()
            sys.dont_write_bytecode = writing


@cache
def _install_hook() -> None:
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _watched:
        return
    watch, thread = _watched[0], threading.get_ident()
    path = watch.path
    if thread != watch.thread:
        # Python 3.11 tells of no thread that starts: a new one may be the pickle's
        if thread not in watch.others and event in _PROGRAMS:
            raise BadPackage(f"{path.name} wants to run {event}, which no model needs")
        return
    if event == "pickle.find_class":
        if not is_allowed(*args):
            raise refusal(path, args)
    elif event == "open":
        mode, flags = args[1], args[2]
        if set(mode or "") & set("wax+") or (isinstance(flags, int) and flags & _WRITES):
            raise BadPackage(f"{path.name} wants to write a file, which no model needs")
    elif event in _SOURCE:
        if not _is_importing():
            raise BadPackage(f"{path.name} wants to run {event}, which no model needs")
    elif event in _FORBIDDEN:
        raise BadPackage(f"{path.name} wants to run {event}, which no model needs")


def _is_importing() -> bool:
    """Whether a module is being imported further up: importing runs source text."""
    above: FrameType | None = sys._getframe(1)
    while above is not None:
        if above.f_code.co_filename == _IMPORTING:
            return True
        above = above.f_back
    return False
