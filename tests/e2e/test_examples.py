"""The demo trains, packs, serves, and gets the answers it prints."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_demo_answers_its_own_curl_lines(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ended = subprocess.run(
        [sys.executable, "-m", "examples.demo", str(tmp_path), "--port", str(port), "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("curl ")]
    assert len(lines) >= 5
    assert any('"age": 35.0, "tenure": 24, "monthly_charges": 65.5' in line for line in lines)
    assert len(re.findall(r'^{"prediction', ended.stdout, flags=re.MULTILINE)) == 4
