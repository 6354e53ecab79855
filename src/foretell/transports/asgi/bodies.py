"""The bodies in flight are all bytes of requests that a process holds at a time, at every door.

Rules:

1. Bytes count as they arrive, those of a packed body once more when it is unpacked, until the
   request is answered, refused, or its client has left.
2. A body in one piece of no more than `UNCOUNTED_BYTES` does not count: there are no more of
   them than requests.
3. What would not fit is refused, and its bytes are free for others. A single body that is larger
   than all of the budget is taken when no other is there.
4. Each message of a stream is a body, until it is answered.
"""

from collections import deque
from typing import Self

from foretell.errors import Overloaded

UNCOUNTED_BYTES = 2**16
_COME_BACK_S = 1.0  # bodies arrive at their clients' pace, which nobody here knows


class Bodies:
    """The budget that all requests share."""

    __slots__ = ("_most", "held_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes
        self.held_bytes = 0

    def holding(self) -> "Held":
        """What one body holds: nothing yet."""
        return Held(self)

    def take(self, size: int, own: int) -> None:
        """Count `size` bytes more for a body that holds `own`. Raises Overloaded."""
        others = self.held_bytes - own
        if others and self.held_bytes + size > self._most:
            raise Overloaded(
                f"{others} bytes of other bodies are held already, and with this one they would "
                f"be more than {self._most}; come back in {_COME_BACK_S:.0f} s, or raise the "
                "server's max_body_bytes_in_flight",
                retry_after_s=_COME_BACK_S,
            )
        self.held_bytes += size

    def give_back(self, size: int) -> None:
        """Free `size` bytes."""
        self.held_bytes -= size


class Held:
    """What one body holds of the budget; leaving it as a context gives all of it back."""

    __slots__ = ("_bodies", "_size")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._size = 0

    def add(self, size: int) -> None:
        """Hold `size` bytes more. Raises Overloaded."""
        self._bodies.take(size, self._size)
        self._size += size

    def free_all(self) -> None:
        """Hold nothing."""
        self._bodies.give_back(self._size)
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.free_all()


class HeldInTurn:
    """What the messages of one stream hold; leaving it as a context gives all of it back."""

    __slots__ = ("_bodies", "_current", "_whole")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._current = Held(bodies)
        self._whole: deque[Held] = deque()

    @property
    def unanswered(self) -> int:
        """How many whole messages are still to be answered."""
        return len(self._whole)

    def add(self, size: int) -> None:
        """Hold `size` bytes more of the message that is coming. Raises Overloaded."""
        self._current.add(size)

    def end_message(self) -> None:
        """What comes now is the next message."""
        self._whole.append(self._current)
        self._current = Held(self._bodies)

    def answer(self) -> None:
        """The first of the messages that were not answered yet is held no more."""
        if self._whole:
            self._whole.popleft().free_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for held in (self._current, *self._whole):
            held.free_all()
