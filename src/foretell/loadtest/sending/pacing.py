"""An alarm calls back at a moment: within some 50 µs on Linux, within 1 ms elsewhere.

Event loops wait in whole milliseconds. A load test that sent a request a millisecond late would
measure itself, so on Linux the kernel's own timers wake the loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_SECOND_NS = 1_000_000_000


class _Times(ctypes.Structure):
    """`struct itimerspec`: how often, and when."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Alarm:
    """One moment of time.monotonic() to be called at; set anew each time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._pending: asyncio.TimerHandle | None = None
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._times = _Times()
            self._by_reference = ctypes.byref(self._times)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file >= 0:
            loop.add_reader(self._file, ring)

    def set(self, at: float) -> None:
        """Ring at `at`, at once when that has passed; what was set before is forgotten."""
        if self._file >= 0:
            seconds = int(at)
            self._times.at_s = seconds
            self._times.at_ns = max(1, int((at - seconds) * _SECOND_NS))  # 0 and 0 is never
            self._libc.timerfd_settime(self._file, _ABSOLUTE, self._by_reference, None)
        else:
            self.clear()
            self._pending = self._loop.call_later(max(0.0, at - time.monotonic()), self._ring)

    def clear(self) -> None:
        """Do not ring."""
        if self._file >= 0:
            self._times.at_s = self._times.at_ns = 0
            self._libc.timerfd_settime(self._file, 0, self._by_reference, None)
        elif self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def close(self) -> None:
        """Give the timer back."""
        self.clear()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1
