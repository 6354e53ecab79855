"""A notice tells the workers of a server that they are to leave, while they still answer.

It lies in memory that processes share which are forked after it was made. Who arrives after a
notice is not meant by it.
"""

import mmap

_COUNT, _STOPPING = 0, 1


class Notice:
    """Nothing is announced yet."""

    def __init__(self) -> None:
        # The count runs over at 256; no worker stays that many reloads.
        self._bytes = mmap.mmap(-1, 2)
        self._known = 0

    def arrive(self) -> None:
        """Take this process for one that earlier notices do not mean."""
        self._known = self._bytes[_COUNT]

    def give(self, *, stopping: bool) -> None:
        """Tell all workers to leave: to be replaced, or because the whole server stops."""
        if stopping:
            self._bytes[_STOPPING] = 1
        self._bytes[_COUNT] = (self._bytes[_COUNT] + 1) % 256

    @property
    def leaving(self) -> bool:
        """Whether this process is to leave."""
        return self._bytes[_COUNT] != self._known

    @property
    def stopping(self) -> bool:
        """Whether the whole server stops, and should be sent nothing new."""
        return self._bytes[_STOPPING] != 0
