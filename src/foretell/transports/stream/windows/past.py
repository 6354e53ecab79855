"""The past of a stream's keys: recalled for a batch, filled in, and kept before it is acknowledged.

Rules:

1. Only messages that the signature accepts have happened.
2. What has happened is kept when the results are out, and before their messages are acknowledged.
   Whoever is killed between the two gets the same messages again; their histories know them.
3. Histories of a batch are in memory as long as it is; everything else is where the states are.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from foretell.core.rolling.history import Event, History, number_of
from foretell.core.rolling.windows import Windows
from foretell.errors import ForetellError, InvalidInput, StoreFailed
from foretell.transports.stream.formats import Row
from foretell.transports.stream.message import Message, Told
from foretell.transports.stream.windows.states import States

_encode = msgspec.msgpack.encode
_decoder = msgspec.msgpack.Decoder(
    tuple[int, list[tuple[int, float, tuple[float | None, ...], int]]]
)


class Past:
    """The histories of one stream's keys."""

    def __init__(self, windows: Windows, states: States) -> None:
        self._windows, self._states = windows, states
        self._histories: dict[bytes, History] = {}
        self._changed: set[bytes] = set()

    async def recall(self, rows: Iterable[Row]) -> None:
        """Load the histories of the keys of `rows`. Raises StoreFailed."""
        self._histories.clear()
        self._changed.clear()
        keys: dict[bytes, None] = {}
        for message, told in rows:
            if isinstance(told, ForetellError):
                continue
            try:
                keys[self._key(message, told)] = None
            except InvalidInput:
                continue  # `filled` raises it where somebody is told
        found = await self._states.load([*keys]) if keys else []
        for key, kept in zip(keys, found, strict=True):
            self._histories[key] = self._history(kept)

    def _history(self, kept: bytes | None) -> History:
        if kept is None:
            return History(self._windows)
        try:
            batches, events = _decoder.decode(kept)
        except msgspec.MsgspecError as error:
            raise StoreFailed(f"a history in --state is not one of Foretell's: {error}") from None
        return History(self._windows, [Event(*event) for event in events], batches)

    def filled(self, message: Message, told: Told) -> tuple[Told, bytes, Event]:
        """`told` with the features that it lacks; its key, and its event. Raises InvalidInput."""
        key = self._key(message, told)
        event = Event(
            int.from_bytes(hashlib.blake2b(message.position.encode(), digest_size=8).digest()),
            self._time(message, told),
            tuple(number_of(told.get(field)) for field in self._windows.fields),
        )
        return {**self._histories[key].features(event), **told}, key, event

    def happened(self, key: bytes, event: Event) -> None:
        """The next events of `key` see this one."""
        if self._histories[key].append(event):
            self._changed.add(key)

    async def keep(self) -> None:
        """What has happened since `recall` is kept. Raises StoreFailed."""
        if not self._changed:
            return
        told: dict[bytes, bytes] = {}
        for key in self._changed:
            history = self._histories[key]
            history.finish()
            told[key] = _encode((history.batches, history.events))
        await self._states.save(told)
        self._changed.clear()

    async def close(self) -> None:
        """The states are closed."""
        await self._states.close()

    def _key(self, message: Message, told: Told) -> bytes:
        name = self._windows.key
        if name is None:
            if message.key is None:
                raise InvalidInput("the message has no key, by which windows are kept")
            return message.key
        key = told.get(name)
        if key is None or isinstance(key, list | dict):
            raise InvalidInput(
                f"field '{name}' must be a key, by which windows are kept", field=name
            )
        return key.encode() if isinstance(key, str) else msgspec.json.encode(key)

    def _time(self, message: Message, told: Told) -> float:
        name = self._windows.time
        if name is None:
            return time.time() if message.at is None else message.at
        return time_of(told, name)


def seconds_of(told: object) -> float:
    """A time as seconds since 1970: a number of them, or RFC 3339. Raises ValueError."""
    number = number_of(told)
    if number is not None:
        return number
    try:
        found = datetime.fromisoformat(told if isinstance(told, str) else "")
    except ValueError:
        raise ValueError("write seconds since 1970, or as in 2026-01-31T12:00:00Z") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def time_of(told: Mapping[str, Any], field: str) -> float:
    """The time of an event, which `field` tells, as `seconds_of`. Raises InvalidInput."""
    try:
        return seconds_of(told.get(field))
    except ValueError as error:
        text = f"field '{field}' must be the time of the event: {error}"
        raise InvalidInput(text, field=field) from None
