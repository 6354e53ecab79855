"""Foretell serves a trained model everywhere it is needed, from one package with one signature."""

from importlib import import_module
from typing import TYPE_CHECKING

from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import ForetellError

if TYPE_CHECKING:
    from foretell.app.batching.jobs import batch
    from foretell.app.local import load
    from foretell.app.settings import Settings
    from foretell.app.streaming.rolling import rolling
    from foretell.app.streaming.streams import stream
    from foretell.app.wiring import create_app
    from foretell.client.clients import AsyncClient, Client
    from foretell.packing import pack

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "Client",
    "Field",
    "ForetellError",
    "Settings",
    "Signature",
    "batch",
    "create_app",
    "load",
    "pack",
    "rolling",
    "stream",
]

# Imported when they are first asked for: `import foretell` stays quick.
_LATER = {
    "AsyncClient": "foretell.client.clients",
    "Client": "foretell.client.clients",
    "Settings": "foretell.app.settings",
    "batch": "foretell.app.batching.jobs",
    "create_app": "foretell.app.wiring",
    "load": "foretell.app.local",
    "pack": "foretell.packing",
    "rolling": "foretell.app.streaming.rolling",
    "stream": "foretell.app.streaming.streams",
}


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'foretell' has no attribute {name!r}")
