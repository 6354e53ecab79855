"""`foretell stream` as a process of its own: started, asked how it is, and ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Consumer(subprocess.Popen[bytes]):
    """`foretell stream` with these flags; one that a test leaves is killed, and its pipe closed."""

    def __init__(self, model: str | Path, *flags: str, cwd: Path | None = None) -> None:
        command = [sys.executable, "-m", "foretell", "stream", str(model), *flags]
        super().__init__(command, stderr=subprocess.PIPE, cwd=cwd)

    def __exit__(self, *error: Any) -> None:
        self.kill()
        super().__exit__(*error)


def stopped(consumer: subprocess.Popen[bytes]) -> str:
    """All that it said, after SIGTERM. It must have begun: until then, the signal kills it."""
    consumer.send_signal(signal.SIGTERM)
    _, err = consumer.communicate(timeout=30)
    assert consumer.returncode in (0, 3), err
    return err.decode()


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def status_becomes(port: int, wanted: int) -> str:
    """What `/health/ready` of `--metrics-bind` says, once it is of this status."""
    deadline = time.monotonic() + 30
    while True:
        try:
            status, text = asked(port, "/health/ready")
        except OSError:  # it has not begun
            status, text = 0, ""
        if status == wanted:
            return text
        assert time.monotonic() < deadline, (status, text)
        time.sleep(0.05)
