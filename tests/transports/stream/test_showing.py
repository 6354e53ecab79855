"""On a terminal, a stream shows what it does, and dead letters stand on lines of their own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.transports.stream.test_brokers import package

__all__ = ["package"]  # a fixture


@pytest.mark.slow
def test_a_line_tells_what_came_and_is_gone_at_the_end(package: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "foretell", "stream", str(package)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with (
        (tmp_path / "out").open("wb") as out,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=theirs, env=environment
        ) as stream,
    ):
        os.close(theirs)
        assert stream.stdin is not None
        stream.stdin.write(b'{"x":1,"y":2}\n' * 1500 + b"garbage\n")
        stream.stdin.flush()
        seen, deadline = b"", time.monotonic() + 30
        while b"1,501 messages, " not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(ours, 65536)
        stream.stdin.close()
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # Linux says so at the end of a terminal
                break
            if not more:
                break
            seen += more
        assert stream.wait(20) == 3
    os.close(ours)
    assert b"1,500 published, 1 dead letters" in seen
    letters = [line for line in seen.replace(b"\r", b"\n").split(b"\n") if b'"code"' in line]
    (letter,) = letters
    assert json.loads(letter[letter.index(b"{") :])["value"] == "garbage"
    assert seen.rstrip().endswith(b"1 dead letters"), "the report stands last"
