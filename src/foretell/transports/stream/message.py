"""A message is what a source hands over; a record is what a sink takes: the contract of both.

Rules:

1. `take` waits for a first message and hands over what has arrived with it, in order; nothing
   means the end. A `take` that is cancelled has taken nothing.
2. `publish` returns when the records have been accepted, in order. Only then are the messages
   they came from acknowledged: whoever is killed between the two publishes them again.
3. A message's `position` is the same each time it comes, so a record's id is, too.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message as its producer wrote it.

    `value` is cut off behind the most bytes that are asked for; who judges it sees that.
    """

    position: str
    value: bytes


class Record(msgspec.Struct, frozen=True):
    """What goes out for one message; its `id` is the same each time the message comes."""

    id: str
    value: bytes


class Source(Protocol):
    """Where messages come from."""

    async def take(self, most: int) -> Sequence[Message]:
        """Up to `most` messages that are there. Raises StoreFailed."""
        ...

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """These are done, and need not come again."""
        ...

    def finish(self) -> None:
        """Read no more: `take` hands over what was read already, and then nothing."""
        ...

    async def close(self) -> None:
        """No more is taken."""
        ...


class Sink(Protocol):
    """Where records go."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Hand over `records`. Raises StoreFailed."""
        ...

    async def close(self) -> None:
        """No more is published."""
        ...


Told = dict[str, Any]
"""A message as it was decoded: its fields by name."""
