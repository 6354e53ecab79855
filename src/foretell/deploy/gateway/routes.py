"""A route says which group answers a request, for how long it may, and what is asked again.

Rules:

1. The models of groups come first, then their paths, longer ones before shorter ones; then what
   carries the canary's header; then the rest, of which the canary has its share.
2. A body that says that it is too large is refused before it is read.
"""

from __future__ import annotations

import re
from typing import Any

from foretell.deploy.gateway.messages import Resource, seconds, typed
from foretell.deploy.gateway.plan import DEFAULT, Gateway, Group, Retries, Strategy

NAME = "routes"
_RETRIES = {
    Retries.ALL: "connect-failure,refused-stream,reset,unavailable,retriable-status-codes",
    Retries.UNSENT: "connect-failure,refused-stream",
}


def routes(gateway: Gateway) -> Resource:
    """The table of routes."""
    found = [_too_large(gateway)]
    for claims in (_models, _prefixes):
        own = [
            _route(gateway, match, name, group)
            for name, group in gateway.groups.items()
            for match in claims(group)
        ]
        own.sort(key=lambda route: -len(route["match"].get("path_separated_prefix", "")))
        found += own
    canary = gateway.canary
    if canary is not None and canary.header is not None:
        match = {"prefix": "/", "headers": [_header(canary.header)]}
        found.append(_route(gateway, match, "canary", canary.group))
    if gateway.upstreams:
        found.append(_rest(gateway))
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": found,
        "include_request_attempt_count": False,
    }
    return typed("config.route.v3.RouteConfiguration", name=NAME, virtual_hosts=[host])


def _prefixes(group: Group) -> list[dict[str, Any]]:
    """The paths that go to a group."""
    whole = (prefix.rstrip("/") for prefix in group.prefixes)
    return [{"path_separated_prefix": one} if one else {"prefix": "/"} for one in whole]


def _models(group: Group) -> list[dict[str, Any]]:
    """The paths of a group's models, and gRPC calls that name one of them."""
    found: list[dict[str, Any]] = []
    for model in group.models:
        found += [
            {"path_separated_prefix": f"{root}/{model}"} for root in ("/models", "/v2/models")
        ]
        regex = {"regex": f"/v1/models/{re.escape(model)}(:.*|/.*)?"}
        found.append({"safe_regex": regex})
        found.append({"prefix": "/", "headers": [_header(f"model-name={model}")]})
    return found


def _header(told: str) -> dict[str, Any]:
    name, equals, value = told.partition("=")
    if equals:
        return {"name": name, "string_match": {"exact": value}}
    return {"name": name, "present_match": True}


def _too_large(gateway: Gateway) -> dict[str, Any]:
    told = {"name": "content-length", "present_match": True}
    fitting = {"start": 0, "end": gateway.max_body_bytes + 1}
    beyond = {"name": "content-length", "range_match": fitting, "invert_match": True}
    return {
        "match": {"prefix": "/", "headers": [told, beyond]},
        "direct_response": {"status": 413},
    }


def _rest(gateway: Gateway) -> dict[str, Any]:
    group = Group(gateway.upstreams, gateway.strategy)
    route = _route(gateway, {"prefix": "/"}, DEFAULT, group)
    canary = gateway.canary
    if canary is not None and canary.percent:
        del route["route"]["cluster"]
        shares = ((DEFAULT, 100 - canary.percent), ("canary", canary.percent))
        weighted = [{"name": name, "weight": weight} for name, weight in shares if weight]
        route["route"]["weighted_clusters"] = {"clusters": weighted}
    return route


def _route(gateway: Gateway, match: dict[str, Any], name: str, group: Group) -> dict[str, Any]:
    action: dict[str, Any] = {
        "cluster": name,
        "timeout": seconds(gateway.timeout_s or 0),
    }
    if gateway.retries is not Retries.NONE:
        retry: dict[str, Any] = {
            "retry_on": _RETRIES[gateway.retries],
            "num_retries": 3,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
            "host_selection_retry_max_attempts": 3,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": typed(
                        "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    ),
                }
            ],
        }
        if gateway.retries is Retries.ALL:
            retry["retriable_status_codes"] = [503]
        action["retry_policy"] = retry
    if group.strategy is Strategy.IP_HASH:
        action["hash_policy"] = [{"connection_properties": {"source_ip": True}}]
    return {"match": match, "route": action}
