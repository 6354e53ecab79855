"""Histories in a Redis that all members of a group share: whoever has a key next, has its past."""

import math
from collections.abc import Mapping, Sequence

from foretell.transports.stream.brokers.places import placed
from foretell.transports.stream.brokers.redis_streams import Connection
from foretell.transports.stream.windows.states import Kept

_EXAMPLE = "redis://HOST:PORT/PREFIX"


class RedisStates:
    """The histories of one stream, each a value that expires; while Redis is away, they wait."""

    def __init__(self, connection: Connection, prefix: str, kept: Kept) -> None:
        self._connection = connection
        self._prefix = f"{prefix}:{kept.name}:".encode()
        self._ttl_ms = math.ceil(kept.ttl_s * 1000)

    async def load(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        names = [self._prefix + key for key in keys]
        found: list[bytes | None] = await self._connection.tried(
            lambda: self._connection.client.mget(names)
        )
        return found

    async def save(self, told: Mapping[bytes, bytes]) -> None:
        async def all_of_it() -> None:
            async with self._connection.client.pipeline(transaction=True) as pipe:
                for key, history in told.items():
                    pipe.set(self._prefix + key, history, px=self._ttl_ms)
                await pipe.execute()

        await self._connection.tried(all_of_it)

    async def close(self) -> None:
        await self._connection.client.aclose()


def redis_states_of(url: str, kept: Kept) -> RedisStates:
    """Those at `url` (…//HOST:PORT/PREFIX). Raises BadSettings, MissingExtra."""
    told = placed(url, {}, _EXAMPLE)
    return RedisStates(Connection(told), told.name, kept)
