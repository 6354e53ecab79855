"""A real Redis for tests, on a free port: killed, frozen, started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import redis


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class RedisServer:
    """A Redis that keeps what it has been told, unless other `options` say otherwise."""

    def __init__(self, folder: Path, *options: str, password: str | None = None) -> None:
        self.folder, self.port, self.password = folder, free_port(), password
        self.options = list(options) or ["--appendonly", "yes", "--appendfsync", "always"]
        if password is not None:
            self.options += ["--requirepass", password]
        self.start()

    @property
    def url(self) -> str:
        login = "" if self.password is None else f":{self.password}@"
        return f"redis://{login}127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password)

    def start(self) -> None:
        """Start it, until it answers."""
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = subprocess.Popen(
            ["redis-server", *place, "--save", "", *self.options], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while not self.answers():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def freeze(self) -> None:
        """It stops in its tracks; connections to it stay."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        self.thaw()
        self.process.terminate()
        self.process.wait(20)
