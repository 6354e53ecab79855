"""Lines are messages in a file, or at standard input and output: NDJSON."""

import asyncio
import errno
import os
import select
import stat
from collections.abc import Callable, Sequence

from foretell.errors import StoreFailed
from foretell.transports.stream.formats import MOST_BYTES
from foretell.transports.stream.message import Message, Record

_READ = 1 << 18
_PIECE = select.PIPE_BUF
"""A pipe that says it can be written takes so many bytes at once."""


class LineSource:
    """The lines of a file descriptor, as far as they have arrived; blank ones are none.

    The position of a line is where it begins. A last line may lack its end.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self._waits = _can_wait(descriptor)
        self._left = b""  # begins at self._at; a line too long is cut, and the rest is skipped
        self._at, self._skipped = 0, 0
        self._ready: list[Message] = []
        self._ended = False

    async def take(self, most: int) -> Sequence[Message]:
        """The lines that are there, at most so many; none at the end."""
        while not self._ready and not self._ended:
            if self._waits:
                loop = asyncio.get_running_loop()
                await _event(self._descriptor, loop.add_reader, loop.remove_reader)
            self._read()
        taken, self._ready = self._ready[:most], self._ready[most:]
        return taken

    def _read(self) -> None:
        try:
            found = os.read(self._descriptor, _READ)
        except OSError as error:
            raise StoreFailed(f"{self._name} cannot be read: {error.strerror}") from error
        if not found:
            self._ended = True
            found = b"\n" if self._left else b""
        *lines, rest = (self._left + found).split(b"\n")
        for line in lines:
            if line.strip():
                value = line.strip() if len(line) <= MOST_BYTES else line[: MOST_BYTES + 1]
                self._ready.append(Message(f"{self._name}:{self._at}", value))
            self._at += len(line) + 1 + self._skipped
            self._skipped = 0
        if len(rest) > MOST_BYTES + 1:
            self._skipped += len(rest) - MOST_BYTES - 1
            rest = rest[: MOST_BYTES + 1]
        self._left = rest

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Nothing to do: a file has no memory of its readers."""

    async def lag(self) -> None:
        """Nobody knows how many lines there are."""

    def finish(self) -> None:
        """What was read already is handed over, but no line whose end has not come."""
        self._ended = True

    async def close(self) -> None:
        os.close(self._descriptor)


class LineSink:
    """Records as lines behind what a file descriptor has already."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self._waits = _can_wait(descriptor)

    async def publish(self, records: Sequence[Record]) -> None:
        """Write all of `records`; a reader that is slow is waited for."""
        left = memoryview(b"".join(record.value + b"\n" for record in records))
        loop = asyncio.get_running_loop()
        while left:
            if self._waits:
                await _event(self._descriptor, loop.add_writer, loop.remove_writer)
            try:
                left = left[os.write(self._descriptor, left[:_PIECE] if self._waits else left) :]
            except BlockingIOError:
                continue  # somebody else who has this pipe was quicker
            except BrokenPipeError:
                raise StoreFailed(f"nobody reads {self._name} any more") from None
            except OSError as error:
                raise StoreFailed(f"{self._name} cannot be written: {error.strerror}") from error

    async def close(self) -> None:
        os.close(self._descriptor)


def source_of(place: str) -> LineSource:
    """The lines of the file at `place`, or of standard input (`-`). Raises StoreFailed."""
    if place == "-":
        return LineSource(_own(0, "standard input"), "-")
    try:
        return LineSource(os.open(place, os.O_RDONLY | os.O_CLOEXEC), place)
    except OSError as error:
        raise StoreFailed(f"{place} cannot be read: {error.strerror}") from error


def sink_of(place: str) -> LineSink:
    """Lines to the file at `place`, to standard output (`-`) or error (`stderr`)."""
    if place in ("-", "stderr"):
        number, name = (1, "standard output") if place == "-" else (2, "standard error")
        return LineSink(_own(number, name), name)
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        size = os.fstat(descriptor).st_size if _is_file(descriptor) else 0
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")  # who wrote here before was killed within a line
    except OSError as error:
        raise StoreFailed(f"{place} cannot be written: {error.strerror}") from error
    return LineSink(descriptor, place)


def _own(number: int, name: str) -> int:
    try:
        return os.dup(number)
    except OSError as error:
        raise StoreFailed(f"{name} is closed") from error


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _can_wait(descriptor: int) -> bool:
    """Whether the system tells when `descriptor` is ready; files always are."""
    with select.epoll() as poll:
        try:
            poll.register(descriptor, select.EPOLLIN)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            return False
    return True


async def _event(
    descriptor: int,
    add: Callable[[int, Callable[[], None]], None],
    remove: Callable[[int], bool],
) -> None:
    """Wait until `descriptor` is ready."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(descriptor)
