"""A greeting says what a server is about to serve, where, and how to try it."""

import json
import logging
import shlex
from collections.abc import Sequence

from foretell.app.settings import Settings
from foretell.engine.repository import Package

_LONGEST = 300

_log = logging.getLogger("foretell.server")


def greet(packages: Sequence[Package], settings: Settings) -> None:
    """Log a line for each package."""
    for package in packages:
        manifest = package.manifest
        fields = {"model": manifest.name, "version": manifest.version, "at": list(settings.bind)}
        _log.info("serving; try: %s", _try(package, settings), extra=fields)


def _try(package: Package, settings: Settings) -> str:
    manifest, scheme = package.manifest, "http" if settings.certfile is None else "https"
    address = settings.bind[0]
    to = f"{scheme}://{address}"
    if address.startswith("unix:"):
        to = f"--unix-socket {shlex.quote(address.removeprefix('unix:'))} {scheme}://localhost"
    elif address.endswith(":0"):
        to = f"{scheme}://HOST:PORT"  # the system's choice, which the server tells of next
    path = f"/models/{manifest.name}/versions/{manifest.version}"
    signature = manifest.signature
    if signature.example is not None:
        row = dict(zip(signature.input_names, signature.example, strict=True))
        body = shlex.quote(json.dumps(row, ensure_ascii=False))
        if len(body) <= _LONGEST:
            return f"curl {to}{path}/predict -d {body}"
    return f"curl {to}/models/{manifest.name}"
