"""Real brokers on free ports: each keeps what it was told when it is stopped and started."""

from __future__ import annotations

import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from tests.redis_server import free_port

Put = tuple[bytes, bytes]
"""A key and a value."""

WAIT_S = 20.0


class Daemon(ABC):
    """A broker's process; `put` and `told` are what a test's producer and reader do."""

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.start()

    @property
    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def answers(self) -> bool: ...

    @abstractmethod
    def source(self, name: str, consumer: str = "one") -> str:
        """The URL to read `name` from, with short timeouts."""

    @abstractmethod
    def sink(self, name: str) -> str: ...

    @abstractmethod
    def prepare(self, *names: str) -> None: ...

    @abstractmethod
    def put(self, name: str, told: Iterable[Put]) -> None: ...

    @abstractmethod
    def told(self, name: str) -> list[bytes]:
        """All values there so far, per key in their order."""

    def start(self) -> None:
        log = (self.folder / "daemon.log").open("ab")
        with log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT_S
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "daemon.log").read_text()
            assert time.monotonic() < deadline, "the broker did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)

    def connects(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
