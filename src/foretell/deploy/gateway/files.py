"""The files that Envoy reads: one it starts with, and those it looks at again when they change."""

from __future__ import annotations

import json
from typing import Any

from foretell.deploy.gateway.clusters import clusters, endpoints, endpoints_file
from foretell.deploy.gateway.listeners import listeners
from foretell.deploy.gateway.messages import Contents, Resource, typed
from foretell.deploy.gateway.plan import Gateway
from foretell.deploy.gateway.routes import routes

BOOTSTRAP = "envoy.json"
ADMINISTRATION = "administration"


def files(
    gateway: Gateway,
    folder: str,
    *,
    admin: dict[str, Any],
    contents: Contents,
    earlier: Gateway | None = None,
) -> dict[str, str]:
    """Their texts by name, for a `folder` where Envoy finds them.

    Names that come first are to be written first: what refers to others comes after them.
    `earlier` is the gateway whose servers stay for now.
    """
    found = {
        endpoints_file(name): _answered([part])
        for name, part in endpoints(gateway, earlier).items()
    }
    found["clusters.json"] = _answered(clusters(gateway, folder, contents))
    found["routes.json"] = _answered([routes(gateway)])
    found["listeners.json"] = _answered(listeners(gateway, folder, contents))
    bootstrap = _bootstrap(gateway, admin)
    bootstrap["dynamic_resources"] = {
        "cds_config": _watched(folder, "clusters.json"),
        "lds_config": _watched(folder, "listeners.json"),
    }
    found[BOOTSTRAP] = _text(bootstrap)
    return found


def whole(gateway: Gateway, *, admin: dict[str, Any], contents: Contents) -> str:
    """All of it in one file, which follows no changes: Envoy judges only what is there at once."""
    bootstrap = _bootstrap(gateway, admin)
    static = bootstrap["static_resources"]
    static["clusters"] += map(_untyped, clusters(gateway, None, contents))
    static["listeners"] = [*map(_untyped, listeners(gateway, None, contents))]
    return _text(bootstrap)


def _untyped(resource: Resource) -> dict[str, Any]:
    return {key: part for key, part in resource.items() if key != "@type"}


def _bootstrap(gateway: Gateway, admin: dict[str, Any]) -> dict[str, Any]:
    administration = {
        "name": ADMINISTRATION,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADMINISTRATION,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": admin}}]}],
        },
    }
    most = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": typed(
            "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=gateway.max_connections,
        ),
    }
    return {
        "node": {"id": "foretell-gateway", "cluster": "foretell"},
        "admin": {"address": admin},
        "static_resources": {"clusters": [administration]},
        "overload_manager": {"resource_monitors": [most]},
    }


def _watched(folder: str, name: str) -> dict[str, Any]:
    source = {"path": f"{folder}/{name}", "watched_directory": {"path": folder}}
    return {"path_config_source": source, "resource_api_version": "V3"}


def _answered(resources: list[Resource]) -> str:
    return _text({"resources": resources})


def _text(told: dict[str, Any]) -> str:
    return json.dumps(told, indent=2) + "\n"
