"""Which store a version's answers are kept in."""

from foretell.engine.stores.memory import MemoryStore
from foretell.engine.stores.redis import RedisStore
from foretell.engine.stores.store import CacheLimits, Store
from foretell.engine.stores.tiered import TieredStore
from foretell.errors import BadSettings


def store_of(limits: CacheLimits, model: str, identity: bytes) -> Store:
    """The store that was chosen for the version of this identity.

    Raises BadSettings, MissingExtra.
    """
    front = MemoryStore(limits.max_bytes, limits.ttl_s)
    if limits.store == "memory":
        return front
    if limits.url is None:
        raise BadSettings(f"the cache of {model} is in Redis, and needs its url, or cache_url")
    behind = RedisStore(limits.url, model, identity, ttl_s=limits.ttl_s, timeout_s=limits.timeout_s)
    return behind if limits.store == "redis" else TieredStore(front, behind)
