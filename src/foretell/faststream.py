"""A package in a FastStream application of your own: a scorer for its batch subscribers.

The application acknowledges and publishes, so the promises are its own; `foretell stream` keeps
those of docs/streaming.md.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from foretell.app.batching.jobs import package_of
from foretell.engine.executors.choosing import ExecutorKind
from foretell.engine.fleet import load
from foretell.errors import InvalidInput
from foretell.transports.stream.message import MOST_ROWS, Message
from foretell.transports.stream.scoring import Choices
from foretell.transports.stream.scoring import Scorer as _Scorer

__all__ = ["Scored", "Scorer"]


class Scored(NamedTuple):
    """JSON-ready documents, in the order of their messages: results and dead letters."""

    results: list[dict[str, Any]]
    dead: list[dict[str, Any]]


class Scorer:
    """A loaded version that scores what a FastStream batch subscriber is given."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        emit: Literal["prediction", "merged"] = "prediction",
        key: str | None = None,
        when: str | None = None,
        format: Literal["json", "msgpack", "arrow"] = "json",  # noqa: A002 - the flag's name
    ) -> None:
        """As the flags of `foretell stream`. Raises BadSettings, BadPackage."""
        loaded = load(package_of(os.fspath(model)), kind=ExecutorKind.INLINE)
        self._scorer = _Scorer(loaded, Choices(emit == "merged", key, when, format))
        self._turn = asyncio.Lock()

    async def score(self, bodies: Sequence[Any], positions: Sequence[str] | None = None) -> Scored:
        """What becomes of `bodies`: bytes, texts, or objects and arrays that FastStream decoded.

        It runs in a thread, one batch at a time. An id is made of a message's position (a stream
        and its entry, or topic, partition and offset), else of its body: equal bodies have equal
        ids then. Raises InvalidInput when there is not a position for each body.
        """
        raw = [_raw(one) for one in bodies]
        if positions is None:
            positions = [_digest(one) for one in raw]
        if len(positions) != len(raw):
            raise InvalidInput(f"{len(raw)} messages have {len(positions)} positions")
        messages = [Message(*one) for one in zip(positions, raw, strict=True)]
        results: list[dict[str, Any]] = []
        dead: list[dict[str, Any]] = []
        async with self._turn:
            for start in range(0, len(messages), MOST_ROWS):
                part = messages[start : start + MOST_ROWS]
                scored = await asyncio.to_thread(functools.partial(self._scorer.score, part))
                results += (msgspec.json.decode(one.value) for one in scored.results)
                dead += (msgspec.json.decode(one.value) for one in scored.dead)
        return Scored(results, dead)


def _raw(body: Any) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]
