"""Lingering keeps what a client still sends while its connection closes from resetting it.

A server that closes a socket on which something arrived unread makes the kernel reset the
connection. A gRPC client that sent a call just then finds its connection broken before it
has read the GOAWAY, which would have told it to send the call elsewhere, and reports the call
as failed. So a leaving worker holds every accepted socket a second time. When the server closes
its own, the sending half is shut down, and what comes in is read until the client is gone.

Linux only; where the open files of a process cannot be listed, nothing is held.
"""

import os
import socket
import stat
import threading
import time

from foretell.engine.notice import Notice

LOOK_EVERY_S = 0.05
"""How often a worker looks whether it leaves."""

HOLD_EVERY_S = 0.005
"""How often a leaving worker looks for new connections, and for closed ones, at most."""

_LEAST_REST = 9
"""This many times the CPU time of a look lies between two: there may be many connections."""

LINGER_S = 0.5
"""For how long what a client sends after its connection was closed is read."""

_FILES = "/proc/self/fd"


class Lingering:
    """The accepted sockets of this process, each held a second time."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}
        self._closed: dict[int, float] = {}
        self._others: set[int] = set()

    def hold(self) -> None:
        """Look at the open files once: hold what is new, end what the server has closed."""
        files: dict[int, list[int]] = {}
        for name in os.listdir(_FILES):
            fd = int(name)
            try:
                told = os.fstat(fd)
            except OSError:  # closed since, or the listing itself
                continue
            if stat.S_ISSOCK(told.st_mode) and told.st_ino not in self._others:
                files.setdefault(told.st_ino, []).append(fd)
        now = time.monotonic()
        for inode, fds in files.items():
            held = self._held.get(inode)
            if held is None:
                self._take(fds[0])
            elif len(fds) == 1:
                self._end(inode, held, now)

    def _take(self, fd: int) -> None:
        try:
            ours = socket.socket(fileno=os.dup(fd))
        except OSError:  # closed since
            return
        inode = os.fstat(ours.fileno()).st_ino  # the number may have gone to another one since
        if inode in self._held:
            ours.close()
        elif _is_connected(ours):
            self._held[inode] = ours
        else:
            self._others.add(inode)
            ours.close()

    def _end(self, inode: int, held: socket.socket, now: float) -> None:
        if inode not in self._closed:
            self._closed[inode] = now
            try:
                held.shutdown(socket.SHUT_WR)
            except OSError:  # the client has left
                self._let_go(inode)
                return
        if not _read_all(held) or now - self._closed[inode] > LINGER_S:
            self._let_go(inode)

    def _let_go(self, inode: int) -> None:
        self._held.pop(inode).close()
        del self._closed[inode]

    def __len__(self) -> int:
        return len(self._held)


def _is_connected(one: socket.socket) -> bool:
    """Whether it is a TCP connection: no listener, no pair of a library's own."""
    try:
        one.getpeername()
    except OSError:
        return False
    return one.family in (socket.AF_INET, socket.AF_INET6)


def _read_all(held: socket.socket) -> bool:
    """Read what has come in; False when the client has closed its side."""
    try:
        while held.recv(65536, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def linger(notice: Notice) -> None:
    """Hold the connections of this process from the moment that it is to leave.

    A thread of its own does so; the process ends when its clients have left, or after LINGER_S.
    """
    if os.path.isdir(_FILES):
        threading.Thread(target=_linger, args=(notice,)).start()


def _linger(notice: Notice) -> None:
    process = threading.main_thread()
    while not notice.leaving:
        if not process.is_alive():  # it ended without notice
            return
        time.sleep(LOOK_EVERY_S)
    lingering = Lingering()
    lingering.hold()
    while process.is_alive() or len(lingering):
        began = time.thread_time()
        lingering.hold()
        time.sleep(max(HOLD_EVERY_S, _LEAST_REST * (time.thread_time() - began)))
