"""The servers: what they do with an application before it answers."""

import gc
import subprocess
import sys

from foretell.app import wiring
from foretell.app.servers import settled
from foretell.app.settings import Settings


def test_what_was_loaded_is_out_of_the_collectors_way() -> None:
    try:
        app = settled(lambda: wiring.build([], Settings()))
        assert gc.get_freeze_count() > 10_000
        assert not any(one is app for one in gc.get_objects())
    finally:
        gc.unfreeze()


FAULTS = """
import resource
from foretell.app import wiring
from foretell.app.servers import settled
from foretell.app.settings import Settings

def pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        parts = [bytes(2**20) for _ in range(4)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

settled(lambda: wiring.build([], Settings()))
pages(2)
print(pages(50) / 50)
"""


def test_what_a_request_gave_back_is_there_for_the_next() -> None:
    argv = [sys.executable, "-c", FAULTS]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert float(told) < 100  # of the 1,024 pages of four blocks of 1 MiB
