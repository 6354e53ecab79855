"""A running gateway: Envoy, its files, and who changes them.

Rules:

1. Nothing is changed that Envoy did not judge before; what it refuses leaves all as it was.
2. A changed file of settings, or SIGHUP, is followed while it runs; calls under way are not cut.
   An address to listen on, and what else stands in Envoy's first file, needs a new start.
3. SIGTERM: connections are told to leave for `drain_grace_s`, then what is left ends; exit 0.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from foretell.app.gateway import envoy, reading
from foretell.deploy.gateway.clusters import is_of_addresses
from foretell.deploy.gateway.files import BOOTSTRAP, files, whole
from foretell.deploy.gateway.messages import Contents
from foretell.deploy.gateway.plan import Gateway
from foretell.errors import BadSettings, ForetellError, StartFailed

LOOK_EVERY_S = 0.5
READY_WITHIN_S = 30.0
INTRODUCED_WITHIN_S = 10.0
STOPPED_WITHIN_S = 10.0
_log = logging.getLogger("foretell.gateway")
Read = Callable[[], Gateway]


def judged(gateway: Gateway, admin_port: int) -> str:
    """All of it in one file that Envoy takes. Raises BadSettings."""
    contents = Contents(reading.read_keys(gateway.api_keys_file))
    text = whole(gateway, admin_port=admin_port, contents=contents)
    with tempfile.TemporaryDirectory(prefix="foretell-gateway-") as trial:
        write({BOOTSTRAP: text}, Path(trial))
        envoy.validate(envoy.program(), Path(trial, BOOTSTRAP))
    return text


def render(
    gateway: Gateway, folder: Path, admin_port: int, earlier: Gateway | None = None
) -> dict[str, str]:
    """The files for `folder`, with servers of `earlier`, too. Raises BadSettings."""
    judged(gateway, admin_port)
    contents = reading.read_contents(gateway)
    return files(gateway, str(folder), admin_port=admin_port, contents=contents, earlier=earlier)


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
    with tempfile.TemporaryDirectory(prefix="foretell-gateway-") as name:
        running = _Running(read, config, Path(name), gateway)
        running.start(threads)
        try:
            running.wait_until_ready()
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
        self._admin_port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = self._again = False
        self._seen = self._marks()
        self._refused = 0

    def start(self, threads: int) -> None:
        """Write the files, start Envoy, listen to signals."""
        texts = render(self._gateway, self._folder, self._admin_port)
        write(texts, self._folder)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._heard)
        self._process = envoy.start(envoy.program(), self._folder / BOOTSTRAP, threads=threads)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._again = True
        else:
            self._stop = True

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def wait_until_ready(self) -> None:
        """Until Envoy listens. Raises StartFailed."""
        until = time.monotonic() + READY_WITHIN_S
        while not envoy.is_ready(self._admin_port):
            if self._stop:
                return
            if self._ended() or time.monotonic() > until:
                raise StartFailed(
                    f"the gateway does not come up on {self._gateway.bind}; Envoy's lines above "
                    "say why (is the port taken?)"
                )
            time.sleep(0.05)
        self._refused = envoy.refused_updates(self._admin_port)
        if self._refused:
            raise StartFailed("Envoy did not take its files; its lines above say why")

    def follow(self) -> None:
        """Follow changes until a signal ends it. Raises StartFailed when Envoy ends."""
        while not self._stop:
            if self._ended():
                raise StartFailed("Envoy ended by itself; its lines above say why")
            marks = self._marks()
            if self._again or marks != self._seen:
                self._again, self._seen = False, marks
                self._change()
            time.sleep(LOOK_EVERY_S)

    def _change(self) -> None:
        try:
            gateway = self._read()
            texts = render(gateway, self._folder, self._admin_port)
            first = (self._folder / BOOTSTRAP).read_text(encoding="utf-8")
            if texts[BOOTSTRAP] != first or gateway.bind != self._gateway.bind:
                raise BadSettings(
                    "bind and max_connections are what the gateway was started with; "
                    "stop it and start it again"
                )
        except ForetellError as error:
            _log.error("nothing was changed: %s", error.message)
            return
        self._introduce(gateway)
        write(texts, self._folder)
        self._gateway = gateway
        _log.info("the gateway follows its changed settings")

    def _introduce(self, gateway: Gateway) -> None:
        """Let Envoy get to know new servers beside the old ones, as long as they get ready."""
        before, wanted = self._gateway.all_groups(), set()
        for name, group in gateway.all_groups().items():
            if not is_of_addresses(group):
                continue  # what a name stands for is Envoy's to know
            known = set(map(str, before[name].upstreams)) if name in before else set()
            wanted |= {(name, place) for place in map(str, group.upstreams) if place not in known}
        if not wanted:
            return
        port = self._admin_port
        write(render(gateway, self._folder, port, earlier=self._gateway), self._folder)
        until = time.monotonic() + INTRODUCED_WITHIN_S
        while not wanted <= (found := envoy.well(port)) and not self._stop:
            if time.monotonic() > until:
                late = ", ".join(sorted(place for _, place in wanted - found))
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
            except OSError:  # about to be written anew
                told = None
            found.append((told.st_mtime_ns, told.st_size) if told else (0, 0))
        return found

    def drain(self) -> None:
        """Tell clients to leave, and give them time."""
        try:
            envoy.ask(self._admin_port, "POST", "/healthcheck/fail")
            envoy.ask(self._admin_port, "POST", "/drain_listeners?graceful&skip_exit")
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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port
