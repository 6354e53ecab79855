"""Storage is where the bytes of a job lie: folders, and object stores."""

from foretell.transports.batch.storage.places import open_store
from foretell.transports.batch.storage.store import Lock, Store

__all__ = ["Lock", "Store", "open_store"]
