"""Scheduling lets the server's own I/O threads wait for the event loop while requests crowd in.

Each answer wakes an I/O thread of the server, and the kernel lets a thread that wakes up take the
core at once: under many connections the event loop was interrupted for nearly every answer.
Under the policy SCHED_BATCH a thread that wakes up waits for its turn, so answers leave together.
It also waits for whatever else runs on the core, so quiet servers keep the usual policy.

Measured in docs/decisions/0009. Linux only; where the policy cannot be set, nothing changes.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable

from foretell.engine.dataplane import DataPlane, Traffic

CROWDED = 2.5
"""Requests a batch, on average, from which on I/O threads wait for their turn."""

EVERY_S = 0.1

_log = logging.getLogger("foretell.server")


def crowded(before: Traffic, now: Traffic) -> bool:
    """Whether the requests of the time between came in crowds."""
    batches = now.batches - before.batches
    return batches > 0 and (now.requests - before.requests) / batches >= CROWDED


def io_threads() -> list[int]:
    """The threads of this process that Python did not start: the server's."""
    ours = {thread.native_id for thread in threading.enumerate()}
    return [tid for tid in map(int, os.listdir("/proc/self/task")) if tid not in ours]


def schedule(tids: Iterable[int], policy: int) -> None:
    """Give each thread `policy`, but those that have ended, or that run under one of the user's.

    Raises OSError where that is not allowed.
    """
    for tid in tids:
        try:
            if os.sched_getscheduler(tid) in (os.SCHED_OTHER, os.SCHED_BATCH):
                os.sched_setscheduler(tid, policy, os.sched_param(0))
        except ProcessLookupError:
            continue


def follow(dataplane: DataPlane) -> None:
    """Watch the traffic for as long as the process lives, in a thread of its own."""
    if hasattr(os, "SCHED_BATCH") and os.path.isdir("/proc/self/task"):
        threading.Thread(target=_follow, args=(dataplane,), daemon=True).start()


def _follow(dataplane: DataPlane) -> None:
    before, waiting = dataplane.traffic(), False
    while True:
        time.sleep(EVERY_S)
        now = dataplane.traffic()
        if crowded(before, now) != waiting:
            waiting = not waiting
            try:
                schedule(io_threads(), os.SCHED_BATCH if waiting else os.SCHED_OTHER)
            except OSError as error:
                _log.debug("I/O threads keep the usual scheduling: %s", error)
                return
        before = now
