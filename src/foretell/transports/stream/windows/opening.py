"""Which states a URL says; the modules of SQLite and Redis are imported when they are asked for."""

from foretell.errors import BadSettings
from foretell.transports.stream.windows.states import Kept, MemoryStates, States


def states_of(url: str | None, kept: Kept) -> States:
    """The states that `url` says, or those in memory. Raises BadSettings, StoreFailed."""
    if url is None:
        return MemoryStates(kept)
    kind, _, place = url.partition(":")
    if kind == "file" and place:
        from foretell.transports.stream.windows.sqlite_states import SqliteStates

        return SqliteStates(place.removeprefix("//"), kept)
    if kind in ("redis", "rediss") and place:
        from foretell.transports.stream.windows.redis_states import redis_states_of

        return redis_states_of(url, kept)
    raise BadSettings(f"--state {url}: name file:PATH or redis://HOST:PORT/PREFIX")
