"""What is freed is used again, instead of coming back from the system page by page."""

import subprocess
import sys

WORK = """
import resource
from foretell.app.serving.memory import keep_what_is_freed

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        parts = [bytes(2**20) for _ in range(4)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_what_is_freed()
faults(2)
print(faults(50) // 50)
"""


def pages_a_round() -> int:
    argv = [sys.executable, "-c", WORK]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_large_blocks_are_taken_from_what_was_freed() -> None:
    assert pages_a_round() < 100  # of the 1,024 that four blocks of 1 MiB are
