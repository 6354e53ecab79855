"""A place is where a person says that files are: a path, or the URL of an object store."""

from __future__ import annotations

from pathlib import Path

from foretell.transports.batch.storage.clouds import is_url
from foretell.transports.batch.storage.local import LocalStore
from foretell.transports.batch.storage.objects import ObjectStore
from foretell.transports.batch.storage.store import Store


def open_store(place: str) -> Store:
    """The store of a folder, which need not be there. Raises BadSettings for an unknown URL."""
    return ObjectStore(place.rstrip("/")) if is_url(place) else LocalStore(Path(place))
