"""Real servers for tests: `foretell serve` in a process of its own, on a free port."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S = 60.0
STOP_S = 30.0
_LISTENING = re.compile(r"""(?:(?:Listening|running) on |"url":")(https?://[^\s"]+)""")


class Server:
    """A running `foretell serve`: its base URL, its process, and what it wrote."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self._listening = threading.Event()
        self._read_more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._read_more:
                self.lines.append(line)
                self._read_more.notify_all()
            found = _LISTENING.search(line)
            if found and not self.url:
                self.url = found.group(1)
                self._listening.set()
        self._listening.set()  # it ended: whoever waits must see that

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def until_logged(self, words: str) -> None:
        """Until its log has `words`: it is written and read beside the replies."""
        with self._read_more:
            assert self._read_more.wait_for(lambda: words in self.log, STOP_S), self.log

    def wait(self) -> None:
        """Until it answers, or ended."""
        assert self._listening.wait(START_S), self.log
        assert self.url, f"the server did not start:\n{self.log}"
        verify = not self.url.startswith("https")
        ready = httpx.get(f"{self.url}/health/ready", timeout=START_S, verify=verify)
        assert ready.status_code == 200, self.log

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, if it has not ended, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self.process.wait(STOP_S)
        finally:
            self.process.kill()
            self.process.wait(STOP_S)
            self._reader.join(STOP_S)
            if self.process.stderr is not None:
                self.process.stderr.close()


def start(*arguments: str | Path, cwd: Path | None = None, **environ: str) -> Server:
    """`foretell serve` with these arguments, on a free port unless a bind is given."""
    told = [str(argument) for argument in arguments]
    if "--bind" not in told:
        told += ["--bind", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "foretell", "serve", *told],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "FORETELL_LOG_FORMAT": "pretty", **environ},
    )
    return Server(process)


@contextmanager
def running(*arguments: str | Path, cwd: Path | None = None, **environ: str) -> Iterator[Server]:
    """A server that answers; ended at the end, which must be clean."""
    server = start(*arguments, cwd=cwd, **environ)
    try:
        server.wait()
        yield server
    except BaseException:
        server.stop(signal.SIGKILL)
        raise
    assert server.stop() == 0, server.log
