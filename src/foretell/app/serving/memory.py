"""Memory that one request gave back is there for the next one.

glibc returns free memory to the system as soon as there are a few hundred KiB of it, and the
system hands it out again page by page, zeroed. For bodies of 1 MiB that cost more than reading,
checking and writing them. A worker keeps up to `KEPT_BYTES` of what was freed instead.
"""

import ctypes
import sys

KEPT_BYTES = 64 * 2**20
_LARGEST_POOLED = 32 * 2**20  # glibc takes no larger one
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_what_is_freed() -> bool:
    """Tell the C library; False where it is not glibc and goes its own ways."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    pooled = mallopt(_M_MMAP_THRESHOLD, _LARGEST_POOLED)
    return bool(pooled and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
