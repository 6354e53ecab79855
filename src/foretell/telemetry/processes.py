"""The processes of a server are the one that started it, its workers, and those models run in.

As Linux accounts for them in /proc; elsewhere nothing is known of them. CPU time is also that of
processes that have ended and were waited for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Processes:
    """What the processes of one server use together; memory they share counts for each."""

    cpu_s: float
    resident_bytes: int
    open_files: int
    started_at: float


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    cpu_ticks: int
    resident_pages: int
    start_ticks: int

    @classmethod
    def read(cls, pid: int) -> _Process | None:
        """The process `pid`, or None when it is gone."""
        try:
            told = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name in parentheses may hold anything; what follows it is plain (proc(5)).
        part = told.rpartition(")")[2].split()
        ticks = sum(map(int, part[11:15]))
        return cls(pid, int(part[1]), ticks, int(part[21]), int(part[19]))

    def open_files(self) -> int:
        """How many files it has open; 0 when it is gone, or has other rights than we."""
        try:
            return len(os.listdir(_PROC / str(self.pid) / "fd"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return 0


def measured(root: int) -> Processes | None:
    """What `root` and its descendants use; None where that is not known."""
    # The root first: what it waits for meanwhile is missed this once, and never counted twice.
    first = _Process.read(root) if (_PROC / "stat").is_file() else None
    if first is None:
        return None
    members = _with_descendants(first)
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return Processes(
        cpu_s=sum(one.cpu_ticks for one in members) / tick,
        resident_bytes=sum(one.resident_pages for one in members) * page,
        open_files=sum(one.open_files() for one in members),
        started_at=_booted_at() + first.start_ticks / tick,
    )


def _with_descendants(root: _Process) -> list[_Process]:
    by_parent: dict[int, list[_Process]] = {}
    for name in os.listdir(_PROC):
        process = _Process.read(int(name)) if name.isdigit() else None
        if process is not None:
            by_parent.setdefault(process.parent, []).append(process)
    members, seen = [root], 0
    while seen < len(members):
        members += by_parent.get(members[seen].pid, ())
        seen += 1
    return members


def _booted_at() -> float:
    for line in (_PROC / "stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
