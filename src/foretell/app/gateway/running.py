"""A running gateway: Envoy, its files, and who changes them.

Rules:

1. Nothing is changed that Envoy did not judge before; what it refuses leaves all as it was.
2. A changed file of settings, or SIGHUP, is followed while it runs; calls under way are not cut.
   An address to listen on, and what else stands in Envoy's first file, needs a new start.
3. SIGTERM: connections are told to leave for `drain_grace_s`, then what is left ends; exit 0.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from foretell.app.gateway import envoy, reading
from foretell.deploy.gateway.clusters import is_of_addresses
from foretell.deploy.gateway.files import BOOTSTRAP, files, whole
from foretell.deploy.gateway.messages import Contents, pipe, socket_address
from foretell.deploy.gateway.plan import Gateway
from foretell.errors import BadSettings, ForetellError, StartFailed

ADMIN_PORT = 9901
"""Where an Envoy of one's own is administered, on 127.0.0.1."""
SOCKET = "admin"
PREFIX = "foretell-gateway-"
LOOK_EVERY_S = 0.5
REFUSED_WITHIN_S = 1.0
READY_WITHIN_S = 30.0
INTRODUCED_WITHIN_S = 10.0
STOPPED_WITHIN_S = 10.0
_log = logging.getLogger("foretell.gateway")
Read = Callable[[], Gateway]


def rendered(gateway: Gateway) -> str:
    """All of it in one file, for an Envoy of one's own. Raises BadSettings."""
    contents = Contents(reading.read_keys(gateway.api_keys_file))
    return judged(whole(gateway, admin=socket_address("127.0.0.1", ADMIN_PORT), contents=contents))


def judged(text: str) -> str:
    """That text, which Envoy takes as its file. Raises BadSettings."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as trial:
        write({BOOTSTRAP: text}, Path(trial))
        envoy.validate(envoy.program(), Path(trial, BOOTSTRAP))
    return text


class _Files:
    """What Envoy is to read of a gateway, in `folder`, once it was judged. Raises BadSettings."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self._gateway, self._folder = gateway, str(folder)
        self._contents = reading.read_contents(gateway)
        self._admin = pipe(str(folder / SOCKET))
        judged(whole(gateway, admin=self._admin, contents=self._contents))

    def texts(self, earlier: Gateway | None = None) -> dict[str, str]:
        """The files, with the servers of `earlier`, too."""
        return files(
            self._gateway,
            self._folder,
            admin=self._admin,
            contents=self._contents,
            earlier=earlier,
        )


def write(texts: Mapping[str, str], folder: Path) -> None:
    """Put files into `folder`, each whole at once, in their order; others are left."""
    for name, text in texts.items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        new = folder / f".{name}"
        new.touch(mode=0o600)  # keys are in it
        new.write_text(text, encoding="utf-8")
        new.replace(path)


def run(read: Read, config: Path | None, *, threads: int, told: Callable[[Gateway], None]) -> None:
    """Run until a signal ends it; `told` is called when it is ready.

    Raises BadSettings, MissingExtra, and StartFailed also when Envoy ends by itself.
    """
    gateway = read()
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as name:
        running = _Running(read, config, Path(name), gateway)
        running.start(threads)
        try:
            if running.is_ready():
                told(gateway)
                running.follow()
                running.drain()
        finally:
            running.end()


class _Running:
    """Envoy and what it was given."""

    def __init__(self, read: Read, config: Path | None, folder: Path, gateway: Gateway) -> None:
        self._read = read
        self._config = config
        self._folder = folder
        self._gateway = gateway
        self._admin = folder / SOCKET
        self._texts: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = self._again = False
        self._seen = self._at_last = self._marks()

    def start(self, threads: int) -> None:
        """Write the files, start Envoy, listen to signals."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._heard)
        self._texts = _Files(self._gateway, self._folder).texts()
        write(self._texts, self._folder)
        self._process = envoy.start(envoy.program(), self._folder / BOOTSTRAP, threads=threads)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._again = True
        else:
            self._stop = True

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def is_ready(self) -> bool:
        """Wait until Envoy listens; False when it was stopped before. Raises StartFailed."""
        until = time.monotonic() + READY_WITHIN_S
        while not envoy.is_ready(self._admin):
            if self._stop:
                return False
            if self._ended() or time.monotonic() > until:
                raise StartFailed(
                    f"the gateway does not come up on {self._gateway.bind}; Envoy's lines above "
                    "say why (is the port taken?)"
                )
            time.sleep(0.05)
        if envoy.refused_updates(self._admin):
            raise StartFailed(
                f"the gateway does not come up on {self._gateway.bind}; Envoy's lines above say "
                "why (is the port taken?)"
            )
        return not self._stop

    def follow(self) -> None:
        """Follow changes until a signal ends it. Raises StartFailed when Envoy ends."""
        while not self._stop:
            if self._ended():
                raise StartFailed("Envoy ended by itself; its lines above say why")
            # What has just changed may be half written: it is read when it stays as it is.
            marks, before = self._marks(), self._at_last
            self._at_last = marks
            if self._again or (marks != self._seen and marks == before):
                self._again, self._seen = False, marks
                self._change()
            time.sleep(LOOK_EVERY_S)

    def _change(self) -> None:
        try:
            gateway = self._read()
            _refuse_new_start(self._gateway, gateway)
            found = _Files(gateway, self._folder)
            self._introduce(gateway, found)
            self._write(found.texts())
        except (ForetellError, OSError, subprocess.TimeoutExpired) as error:
            _log.error("nothing was changed: %s", error)
            return
        self._gateway = gateway
        _log.info("the gateway follows its changed settings")

    def _write(self, texts: dict[str, str]) -> None:
        """Hand files to Envoy; those that it refuses are taken back. Raises BadSettings."""
        refused = envoy.refused_updates(self._admin)
        write(texts, self._folder)
        until = time.monotonic() + REFUSED_WITHIN_S
        while time.monotonic() < until:
            if envoy.refused_updates(self._admin) > refused:
                write(self._texts, self._folder)
                raise BadSettings("Envoy does not take this; its lines above say why")
            time.sleep(0.05)
        self._texts = texts

    def _introduce(self, gateway: Gateway, found: _Files) -> None:
        """Let Envoy get to know new servers beside the old ones, as long as they get ready."""
        before, wanted = self._gateway.all_groups(), set()
        for name, group in gateway.all_groups().items():
            if not is_of_addresses(group):
                continue  # what a name stands for is Envoy's to know
            known = set(map(str, before[name].upstreams)) if name in before else set()
            wanted |= {(name, place) for place in map(str, group.upstreams) if place not in known}
        if not wanted:
            return
        self._write(found.texts(earlier=self._gateway))
        until = time.monotonic() + INTRODUCED_WITHIN_S
        while not wanted <= (well := envoy.well(self._admin)) and not self._stop:
            if time.monotonic() > until:
                late = ", ".join(sorted(place for _, place in wanted - well))
                _log.warning("not ready yet, and in all the same: %s", late)
                return
            time.sleep(0.05)

    def _marks(self) -> list[tuple[int, int]]:
        """What tells whether a file that settings come from is another one now."""
        gateway = self._gateway
        named = [self._config, gateway.api_keys_file, *reading.named_files(gateway)]
        found = []
        for path in named:
            try:
                told = os.stat(path) if path else None
            except (OSError, ValueError):  # about to be written anew
                told = None
            found.append((told.st_mtime_ns, told.st_size) if told else (0, 0))
        return found

    def drain(self) -> None:
        """Tell clients to leave, and give them time."""
        try:
            envoy.ask(self._admin, "POST", "/healthcheck/fail")
            envoy.ask(self._admin, "POST", "/drain_listeners?graceful&skip_exit")
        except OSError:
            return  # it has gone
        until = time.monotonic() + self._gateway.drain_grace_s
        while time.monotonic() < until and not self._ended():
            time.sleep(0.05)

    def end(self) -> None:
        """See to it that Envoy ends."""
        if self._process is None or self._ended():
            return
        self._process.terminate()
        try:
            self._process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _refuse_new_start(before: Gateway, after: Gateway) -> None:
    """Raise BadSettings for a change that a running gateway does not follow."""
    if (before.bind, before.max_connections) != (after.bind, after.max_connections):
        raise BadSettings(
            "bind and max_connections are what the gateway was started with; "
            "stop it and start it again"
        )
    if (before.api_keys_file or before.jwt) and not (after.api_keys_file or after.jwt):
        raise BadSettings(
            "without api_keys_file and jwt everybody might ask; "
            "if that is meant, stop the gateway and start it again"
        )
    asked = before.tls is not None and before.tls.client_cafile is not None
    if asked and (after.tls is None or after.tls.client_cafile is None):
        raise BadSettings(
            "without client_cafile everybody might come in; "
            "if that is meant, stop the gateway and start it again"
        )


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _sweep() -> None:
    """Remove what gateways that were killed have left: keys may be in it."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        number = path.name.removeprefix(PREFIX).partition("-")[0]
        if number.isdigit() and not _is_alive(int(number)):
            with contextlib.suppress(OSError):  # somebody else's
                if path.stat().st_uid == os.getuid():
                    shutil.rmtree(path)
