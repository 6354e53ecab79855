"""Envoy's messages as JSON has them: types, durations, addresses."""

from __future__ import annotations

from typing import Any

Resource = dict[str, Any]
"""A message that says of which type it is."""


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


def socket_address(host: str, port: int) -> dict[str, Any]:
    """Where somebody listens."""
    return {"socket_address": {"address": host, "port_value": port}}
