"""Envoy's messages as JSON has them: types, durations, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Resource = dict[str, Any]
"""A message that says of which type it is."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What stands in the files that a plan names: API keys by their clients' names, and texts.

    Without `texts`, Envoy is told the files' names, and reads each once.
    """

    keys: Mapping[str, str]
    texts: Mapping[str, str] | None = None

    def of(self, path: str) -> dict[str, str]:
        """A file as a data source of Envoy's."""
        return {"filename": path} if self.texts is None else {"inline_string": self.texts[path]}


def typed(name: str, /, **told: Any) -> Resource:
    """A message of `envoy.<name>`."""
    return {"@type": f"type.googleapis.com/envoy.{name}", **told}


def filter_of(kind: str, name: str, message: str, /, **told: Any) -> dict[str, Any]:
    """A filter `envoy.filters.<kind>.<name>`, set up by that message of its own package."""
    package = f"extensions.filters.{kind}.{name}.v3"
    return {
        "name": f"envoy.filters.{kind}.{name}",
        "typed_config": typed(f"{package}.{message}", **told),
    }


def seconds(number: float) -> str:
    """A duration."""
    return f"{number:.9f}".rstrip("0").rstrip(".") + "s"


def pipe(path: str) -> dict[str, Any]:
    """A socket in a folder, for its owner alone."""
    return {"pipe": {"path": path, "mode": 0o600}}


def socket_address(host: str, port: int) -> dict[str, Any]:
    """Where somebody listens."""
    return {"socket_address": {"address": host, "port_value": port}}
