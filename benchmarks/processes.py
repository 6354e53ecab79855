"""A process tree is a server's processes, as Linux accounts for them in /proc.

CPU time is that of every process in the tree, and of those that ended and were waited for.
A process that lost its parent still belongs to the tree by its session.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/<pid>/stat; times in seconds, memory in bytes."""

    pid: int
    parent: int
    session: int
    cpu_s: float
    rss: int
    ended: bool

    @classmethod
    def read(cls, pid: int) -> "Process | None":
        """The process `pid`, or None when it is gone."""
        try:
            told = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name in parentheses may hold anything; what follows it is plain.
        part = told.rpartition(")")[2].split()
        own_and_waited_for = sum(int(ticks) for ticks in part[11:15])
        return cls(
            pid,
            parent=int(part[1]),
            session=int(part[3]),
            cpu_s=own_and_waited_for / _TICKS,
            rss=int(part[21]) * _PAGE,
            ended=part[0] == "Z",
        )


def tree(root: int) -> list[Process]:
    """The process `root`, its descendants, and whoever else is in the session it leads."""
    found = (Process.read(int(name)) for name in os.listdir("/proc") if name.isdigit())
    everyone = [process for process in found if process is not None]
    members = {process.pid for process in everyone if root in (process.pid, process.session)}
    grew = True
    while grew:
        children = {p.pid for p in everyone if p.parent in members}
        grew = not children <= members
        members |= children
    return [process for process in everyone if process.pid in members]


def cpu_seconds(root: int) -> float:
    """CPU time the tree has used so far, user and system; a clock tick is 10 ms."""
    return sum(process.cpu_s for process in tree(root))


def busy_seconds(core: int) -> float:
    """CPU time anybody has used of `core` so far, interrupts and stolen time included."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / _TICKS
    raise ValueError(f"there is no core {core}")


def largest_rss_mib(root: int) -> float:
    """Resident memory of the tree's largest process: with one worker, the worker."""
    return max(process.rss for process in tree(root)) / 2**20


def maps(root: int, part: str) -> bool:
    """Whether a process of the tree has a file mapped whose path contains `part`."""
    for process in tree(root):
        try:
            if part in Path(f"/proc/{process.pid}/maps").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return False
