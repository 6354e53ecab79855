"""A board is numbers that all workers of a server count in, each in a slot of its own.

It lies in memory that processes share which are forked after it was made, so that any of them can
tell the sum, and nothing that was counted is lost with the process that counted it.

Rules:

1. A process claims a slot and alone writes there: no counting needs a lock. A slot whose process
   has ended keeps its counts; the next one to claim it goes on from them.
2. A slot's process lives as long as it holds a lock on the slot's byte of a file without a name:
   the system frees the lock however the process ends, and numbers of processes that come again
   deceive nobody.
3. Gauges tell of now: those of a process that has ended count for nothing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import numpy as np

from foretell.errors import StartFailed

Cells: TypeAlias = "memoryview[float]"
"""The numbers of one slot, all of them floats of 64 bits: whole ones are exact up to 2^53."""

SLOTS = 2048
"""More than there can be workers with all their successors; what is never used takes no memory."""

ALIVE, REPLACES_DEAD, LEFT_FOR_RELOAD, OWN = 0, 1, 2, 3
"""The first cells of each slot; those from OWN on belong to whoever made the board."""

_USED, _MOST, _HEADER = 0, 1, 2
_BYTES = 8


class Sums(NamedTuple):
    """The sums over all slots, gauges over those of the living alone; and each of the living."""

    numbers: Sequence[float]
    living: Sequence[Sequence[float]]


class Board:
    """A board with slots of `width` cells; `gauges` are the places of those that tell of now."""

    def __init__(self, width: int, gauges: Sequence[int]) -> None:
        self._file = _nameless_file()
        weakref.finalize(self, os.close, self._file).atexit = False
        size = _BYTES * (_HEADER + SLOTS * width)
        os.ftruncate(self._file, size)
        self._map = mmap.mmap(self._file, size)
        self._header: Cells = memoryview(self._map).cast("d")[:_HEADER]
        self._slots = np.frombuffer(self._map, np.float64, offset=_BYTES * _HEADER).reshape(
            SLOTS, width
        )
        self._gauges = [ALIVE, *gauges]
        self._own: int | None = None
        self._reading = threading.Lock()  # locks of files are the process's, not the thread's

    def claim(self) -> Cells:
        """A slot for this process, for as long as it lives; its gauges are 0. Raises StartFailed.

        Those who ended without saying so are counted as replaced by this one.
        """
        with self._held(fcntl.LOCK_EX):
            died, used = 0, int(self._header[_USED])
            for slot in range(used):
                if not self._try(slot, fcntl.LOCK_EX):
                    continue
                died += int(self._slots[slot, ALIVE])
                self._slots[slot, self._gauges] = 0
                if self._own is None:
                    self._own = slot
                else:
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
            if self._own is None:
                if used == SLOTS:
                    raise StartFailed(f"there are {SLOTS} workers already; stop some before")
                fcntl.lockf(self._file, fcntl.LOCK_EX, 1, used)
                self._own, self._header[_USED] = used, used + 1
            own = self._slots[self._own]
            own[REPLACES_DEAD] += died
            own[ALIVE] = 1
        return memoryview(own).cast("B").cast("d")

    def leave(self, *, for_reload: bool) -> None:
        """This process counts nothing any more; a successor of it does, `for_reload`."""
        if self._own is not None:
            own = self._slots[self._own]
            own[LEFT_FOR_RELOAD] += for_reload
            own[self._gauges] = 0

    def sums(self) -> Sums:
        """What all processes have counted, and what those that live tell of now."""
        with self._reading, self._held(fcntl.LOCK_SH):
            used = self._slots[: int(self._header[_USED])].copy()
            living = [slot for slot in range(len(used)) if used[slot, ALIVE] and self._lives(slot)]
        numbers = used.sum(axis=0)
        numbers[self._gauges] = used[living][:, self._gauges].sum(axis=0)
        return Sums(numbers.tolist(), used[living].tolist())

    def never_less(self, number: float) -> float:
        """The largest `number` that this was ever asked with, in any process."""
        most = max(number, self._header[_MOST])
        self._header[_MOST] = most
        return most

    @contextmanager
    def _held(self, kind: int) -> Iterator[None]:
        """Inside, nobody claims a slot; with LOCK_EX, nobody looks whether its process lives."""
        fcntl.lockf(self._file, kind, 1, SLOTS)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, SLOTS)

    def _lives(self, slot: int) -> bool:
        if slot == self._own:
            return True
        # Readers share their locks: they do not take one another for a slot's process.
        if not self._try(slot, fcntl.LOCK_SH):
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
        return False

    def _try(self, slot: int, kind: int) -> bool:
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, 1, slot)
        except (BlockingIOError, PermissionError):  # as POSIX has it, one or the other
            return False
        return True


def _nameless_file() -> int:
    """A file that is gone with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("foretell-board")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
