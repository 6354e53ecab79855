"""The servers: what they do with an application before it answers."""

import gc
import platform
import subprocess
import sys

import pytest

from foretell.app import wiring
from foretell.app.serving.servers import settled
from foretell.app.settings import Settings


def test_what_was_loaded_is_out_of_the_collectors_way() -> None:
    try:
        app = settled(lambda: wiring.build([], Settings()))
        assert gc.get_freeze_count() > 10_000
        assert not any(one is app for one in gc.get_objects())
    finally:
        gc.unfreeze()


FAULTS = """
import resource, sys
from foretell.app.serving.memory import keep_what_is_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytes(8 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
keep_what_is_freed()
faults()
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_memory_is_kept_for_the_next_request() -> None:
    """Each page of a block that comes from the kernel is a fault of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    plain, kept = map(int, ended.stdout.split())
    assert kept < plain / 10
