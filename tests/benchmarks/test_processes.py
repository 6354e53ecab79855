"""What is told of a process tree includes its children, and tells a loaded library from none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import processes

# A parent whose only child runs `told`, says when it has, and lives until its input ends.
PARENT = """
import subprocess, sys
told = sys.argv[1] + "\\nprint('ready', flush=True)\\ninput()"
subprocess.Popen([sys.executable, "-c", told]).wait()
"""


@contextmanager
def parent_of(told: str) -> Iterator[int]:
    """The pid of a process whose child has run `told`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, told],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.write("\n")


@pytest.mark.parametrize(("told", "found"), [("import numpy", True), ("import json", False)])
def test_a_compiled_library_is_found_where_it_was_imported_and_only_there(
    told: str, found: bool
) -> None:
    with parent_of(told) as pid:
        assert processes.maps(pid, "/numpy/") is found


def test_the_work_and_the_memory_of_a_child_count() -> None:
    work = "import time\nkept = b'x' * 2**26\nwhile time.process_time() < 0.2: pass"
    with parent_of(work) as pid:
        assert processes.cpu_seconds(pid) >= 0.18  # a clock tick is 0.01 s
        assert processes.largest_rss_mib(pid) > 64


def test_a_core_is_busy_with_what_runs_on_it() -> None:
    core = min(os.sched_getaffinity(0))
    before = processes.busy_seconds(core)
    work = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run(["taskset", "-c", str(core), sys.executable, "-c", work], check=True)
    assert processes.busy_seconds(core) - before >= 0.15
