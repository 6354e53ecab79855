"""Envoy is a program: found, asked whether it takes the files, started, told to leave."""

from __future__ import annotations

import ctypes
import http.client
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from foretell.errors import BadSettings, MissingExtra, StartFailed

DRAIN_S = 30
"""How long connections live on when who may come in is changed, in seconds."""
_SIGNAL_AT_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG
_VALIDATION_S = 60.0
_LONGEST = 800


def program() -> str:
    """Where Envoy is: that of the extra `gateway`, else the PATH's. Raises MissingExtra."""
    spec = find_spec("envoy")
    if spec is not None and spec.origin is not None:
        own = Path(spec.origin).parent / "_bin" / "envoy"
        if own.is_file():
            return str(own)
    found = shutil.which("envoy")
    if found is None:
        raise MissingExtra("Envoy is not installed: install foretell[gateway], or envoy itself")
    return found


def validate(envoy: str, bootstrap: Path) -> None:
    """Let Envoy judge its files. Raises BadSettings with its words."""
    words = [envoy, "--mode", "validate", "-c", str(bootstrap), "--log-level", "error"]
    done = subprocess.run(  # noqa: S603 - the program that was found
        words, capture_output=True, text=True, check=False, timeout=_VALIDATION_S
    )
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split())
        raise BadSettings(f"Envoy does not take this: {told[-_LONGEST:] or done.returncode}")


def start(envoy: str, bootstrap: Path, *, threads: int) -> subprocess.Popen[bytes]:
    """Start it; it ends when this process does, however that comes about."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def end_with_parent() -> None:
        if libc is not None:
            libc.prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGKILL)

    words = [envoy, "-c", str(bootstrap), "--log-level", "warning", "--disable-hot-restart"]
    words += ["--concurrency", str(threads)]
    # Whoever was let in by former keys is told to leave at once, and is out after this.
    words += ["--drain-time-s", str(DRAIN_S), "--drain-strategy", "immediate"]
    # Signals to the whole group, as of a keyboard, are answered by who started it.
    return subprocess.Popen(  # noqa: S603 - the program that was found
        words,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - one call of the kernel's, no lock of Python's
        start_new_session=True,
    )


class _Administration(http.client.HTTPConnection):
    """A connection to the socket `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(admin: Path, method: str, path: str) -> tuple[int, str]:
    """What Envoy's administration answers. Raises OSError when it does not."""
    link = _Administration(admin)
    try:
        link.request(method, path)
        reply = link.getresponse()
        return reply.status, reply.read().decode()
    finally:
        link.close()


def is_ready(admin: Path) -> bool:
    """Whether it listens everywhere it should."""
    try:
        return ask(admin, "GET", "/ready")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def well(admin: Path) -> set[tuple[str, str]]:
    """The servers that it takes for ready, each with the name of its group."""
    try:
        _, told = ask(admin, "GET", "/clusters")
    except (OSError, http.client.HTTPException):
        return set()
    lines = (line.split("::") for line in told.splitlines())
    # of an address of IPv6 all but the first and the last two parts
    found = [parts for parts in lines if parts[-2:] == ["health_flags", "healthy"]]
    return {(parts[0], "::".join(parts[1:-2])) for parts in found}


def refused_updates(admin: Path) -> int:
    """How many changed files it did not take since it started. Raises StartFailed."""
    try:
        _, told = ask(admin, "GET", "/stats?filter=update_rejected&usedonly")
    except (OSError, http.client.HTTPException) as error:
        raise StartFailed(f"Envoy does not answer: {error}") from error
    return sum(int(line.rpartition(": ")[2]) for line in told.splitlines() if ": " in line)
