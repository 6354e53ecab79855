"""A message is what a source hands over; a record is what a sink takes: the contract of both.

Rules:

1. `take` waits for a first message and hands over what has arrived with it, in order; nothing
   means the end. A `take` that is cancelled has taken nothing.
2. `publish` returns when the records have been accepted, in order. Only then are the messages
   they came from acknowledged: whoever is killed between the two publishes them again.
3. A message's `position` is the same each time it comes, so a record's id is, too.
4. Sources and sinks wait for a broker that is away; what is said is one line, and one more
   when it is back.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

MOST_ROWS = 1024
"""So many messages are scored together at most."""

Headers = tuple[tuple[str, bytes], ...]
"""Names and values beside a message, in their order."""


class Message(msgspec.Struct, frozen=True):
    """One message as its producer wrote it.

    `value` is cut off behind the most bytes that are asked for; who judges it sees that.
    `deliveries` is at least 2 when somebody may have had it before who did not finish it. `at`
    is when it happened, in seconds since 1970. `receipt` is what its source acknowledges it by.
    """

    position: str
    value: bytes
    key: bytes | None = None
    headers: Headers = ()
    deliveries: int = 1
    at: float | None = None
    receipt: Any = None


class Record(msgspec.Struct, frozen=True):
    """What goes out for one message; its `id` is the same each time the message comes.

    `headers` are what went along with the message, and which model answered; where a broker has
    headers, its sink adds the id to them.
    """

    id: str
    value: bytes
    key: bytes | None = None
    headers: Headers = ()


class Source(Protocol):
    """Where messages come from."""

    async def take(self, most: int) -> Sequence[Message]:
        """Up to `most` messages that are there. Raises StoreFailed."""
        ...

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """These are done, and need not come again."""
        ...

    async def lag(self) -> int | None:
        """How many messages wait to be taken or acknowledged, where that can be told."""
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


ID_HEADER = "foretell-id"
"""The header that has a record's id."""

KEY_HEADER = "foretell-key"
"""The header that has a message's key, where a broker has no keys."""

Told = dict[str, Any]
"""A message as it was decoded: its fields by name."""
