"""A server's processes, as Linux tells of them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foretell.telemetry import processes

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux alone has /proc")

FAMILY = """
import subprocess, sys
below = "b = bytearray(30 * 2**20)\\nwhile __import__('time').process_time() < 0.3: pass\\n"
child = subprocess.Popen([sys.executable, "-c", below + "print(flush=True)\\ninput()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(flush=True)
input()
child.communicate(b"\\n")
print(flush=True)
input()
"""


def test_all_descendants_count_those_that_ended_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as family:
        assert family.stdin is not None
        assert family.stdout is not None
        family.stdout.readline()
        both = processes.measured(family.pid)
        family.stdin.write("\n")
        family.stdin.flush()
        family.stdout.readline()
        alone = processes.measured(family.pid)
        family.communicate("\n")
    assert both is not None
    assert alone is not None
    # The child's clock said 0.3; Linux tells of four times here, each in whole ticks of 10 ms.
    assert alone.cpu_s >= both.cpu_s > 0.25
    assert both.resident_bytes - alone.resident_bytes > 30 * 2**20
    assert both.open_files > alone.open_files > 0
    assert abs(both.started_at - time.time()) < 60
    assert processes.measured(family.pid) is None


def test_its_own_process_is_one() -> None:
    told = processes.measured(os.getpid())
    assert told is not None
    assert told.resident_bytes > 2**20
