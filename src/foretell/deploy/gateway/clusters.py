"""A cluster is what Envoy calls a group of servers: where they are, and which are well.

Rules:

1. Servers that are addresses come from a file of their own (EDS): one that is taken out ends what
   it is at. Names are looked up again and again, and each address of one is a server.
2. Who is asked speaks HTTP/1.1 for what came by it, and HTTP/2 for what came by that, gRPC too.
3. A server is asked whether it is ready; one that cannot be reached is left out at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foretell.deploy.gateway.messages import Contents, Resource, seconds, socket_address, typed
from foretell.deploy.gateway.plan import Gateway, Group, Strategy, Upstream

HEALTH_PATH = "/health/ready"
_POLICIES = {
    Strategy.ROUND_ROBIN: "ROUND_ROBIN",
    Strategy.LEAST_CONNECTIONS: "LEAST_REQUEST",
    Strategy.IP_HASH: "RING_HASH",
    Strategy.WEIGHTED: "ROUND_ROBIN",
}

# A server that cannot be reached is left out at once; one that answers is judged by its health.
_LEFT_OUT = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 2,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
    "base_ejection_time": "2s",
    "max_ejection_percent": 50,
}


def clusters(gateway: Gateway, folder: str | None, contents: Contents) -> list[Resource]:
    """All clusters; those of addresses read theirs from `folder`, if there is one."""
    found = []
    for name, group in _sorted(gateway):
        told = _cluster(gateway, name, group, folder)
        if group.secure and gateway.upstream_cafile is not None:
            told["transport_socket"] = _secure(group, contents.of(gateway.upstream_cafile))
        found.append(told)
    return found


def endpoints(gateway: Gateway, earlier: Gateway | None = None) -> dict[str, Resource]:
    """The servers of each group that is of addresses, by the group's name.

    With those that a group had `earlier`: until Envoy knows that new ones are well, the old ones
    must stay.
    """
    found = {}
    before = {} if earlier is None else earlier.all_groups()
    for name, group in _sorted(gateway):
        if not is_of_addresses(group):
            continue
        told = {str(upstream): upstream for upstream in group.upstreams}
        if name in before and is_of_addresses(before[name]):
            told = {str(upstream): upstream for upstream in before[name].upstreams} | told
        assignment = _assignment(name, told.values())
        found[name] = typed("config.endpoint.v3.ClusterLoadAssignment", **assignment)
    return found


def is_of_addresses(group: Group) -> bool:
    """Whether no server of a group needs looking up."""
    return all(upstream.is_address for upstream in group.upstreams)


def endpoints_file(name: str) -> str:
    """Where the servers of a group are."""
    return f"endpoints-{name}.json"


def _sorted(gateway: Gateway) -> list[tuple[str, Group]]:
    return sorted(gateway.all_groups().items())


def _cluster(gateway: Gateway, name: str, group: Group, folder: str | None) -> Resource:
    told: dict[str, Any] = {
        "name": name,
        "connect_timeout": seconds(gateway.connect_timeout_s),
        "lb_policy": _POLICIES[group.strategy],
        # What is known of a server's health counts at once, and not up to a second later. Where
        # none seems well, all are asked: one may only have been too busy to say so.
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 1},
            "update_merge_window": "0s",
        },
        # A server that was taken out of the list is gone. One that a look-up does not tell is asked
        # until it seems unwell, too: name servers that begin anew know nobody for a moment.
        "ignore_health_on_host_removal": is_of_addresses(group),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                use_downstream_protocol_config={
                    "http_protocol_options": {},
                    "http2_protocol_options": {},
                },
            )
        },
        "health_checks": [
            {
                "timeout": seconds(gateway.health_every_s),
                "interval": seconds(gateway.health_every_s),
                "no_traffic_interval": seconds(gateway.health_every_s),
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": HEALTH_PATH},
            }
        ],
        "outlier_detection": _LEFT_OUT,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": gateway.max_connections,
                    "max_pending_requests": gateway.max_connections,
                    "max_requests": gateway.max_connections,
                    "retry_budget": {
                        "budget_percent": {"value": 50},
                        "min_retry_concurrency": 100,
                    },
                }
            ]
        },
    }
    return typed("config.cluster.v3.Cluster", **told, **_places(gateway, name, group, folder))


def _places(gateway: Gateway, name: str, group: Group, folder: str | None) -> dict[str, Any]:
    """Where the servers of a group are, and how Envoy learns it."""
    if is_of_addresses(group) and folder is not None:
        source = {"path": f"{folder}/{endpoints_file(name)}", "watched_directory": {"path": folder}}
        config = {"path_config_source": source, "resource_api_version": "V3"}
        return {"type": "EDS", "eds_cluster_config": {"eds_config": config}}
    assignment = {"load_assignment": _assignment(name, group.upstreams)}
    if is_of_addresses(group):
        return {"type": "STATIC", **assignment}
    lookup = typed(
        "extensions.clusters.dns.v3.DnsCluster",
        dns_refresh_rate=seconds(gateway.health_every_s),
        dns_lookup_family="ALL",
    )
    return {
        "cluster_type": {"name": "envoy.clusters.dns", "typed_config": lookup},
        **assignment,
    }


def _assignment(name: str, upstreams: Iterable[Upstream]) -> dict[str, Any]:
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [_endpoint(upstream) for upstream in upstreams]}],
    }


def _endpoint(upstream: Upstream) -> dict[str, Any]:
    endpoint: dict[str, Any] = {
        "endpoint": {"address": socket_address(upstream.host, upstream.port)}
    }
    if upstream.weight is not None:
        endpoint["load_balancing_weight"] = upstream.weight
    return endpoint


def _secure(group: Group, authorities: dict[str, str]) -> dict[str, Any]:
    """TLS to servers, whose certificates must be for the name that they are asked by."""
    names = [
        {"san_type": "IP_ADDRESS" if one.is_address else "DNS", "matcher": {"exact": one.host}}
        for one in group.upstreams
    ]
    context = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        auto_host_sni=not is_of_addresses(group),
        common_tls_context={
            "validation_context": {
                "trusted_ca": authorities,
                "match_typed_subject_alt_names": names,
            },
        },
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}
