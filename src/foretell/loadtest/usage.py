"""Usage is what the generator's own process took of the machine, and what it did not get.

A generator that waits for a core is as little of a measure as one that has used it up: both tell of
themselves. Linux tells how long a thread stood in line; elsewhere that counts as nothing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

_IN_LINE = Path("/proc/thread-self/schedstat")


class Usage(NamedTuple):
    """Seconds of CPU of this process, and seconds that this thread waited for a core."""

    cpu_s: float
    in_line_s: float

    @classmethod
    def now(cls) -> Usage:
        """What it is up to now."""
        try:
            in_line_s = int(_IN_LINE.read_bytes().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):  # another system, or a kernel that does not count
            in_line_s = 0.0
        return cls(time.process_time(), in_line_s)
