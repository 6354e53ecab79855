"""A listener is where the gateway is asked, and what each request goes through.

Rules:

1. Filters: identity before limits, limits before anything that costs; the router is the last.
2. What the gateway itself refuses has the body of all failures: error, code, request_id.
3. Of the gateway's administration, only its metrics can be reached from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foretell.deploy.gateway.clusters import HEALTH_PATH
from foretell.deploy.gateway.messages import (
    Contents,
    Resource,
    filter_of,
    seconds,
    socket_address,
    typed,
)
from foretell.deploy.gateway.plan import Gateway, Jwt, RateLimit, Tls, place_of
from foretell.deploy.gateway.routes import NAME as ROUTES
from foretell.deploy.gateway.routes import routes

BUFFER_BYTES = 2**20
"""Bodies up to this size are kept until their answer begins, and can be sent again."""
IDLE_S = 300.0
"""A call of which no byte came or went for so long is ended, if its limit is not higher."""
_CLIENT = "x-client"
# Only the gateway says who asks.
_NOBODYS_CLIENT = {
    "name": "envoy.http.early_header_mutation.header_mutation",
    "typed_config": typed(
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[{"remove": _CLIENT}],
    ),
}
_KEY_HEADERS = ("x-api-key", "authorization")
_STREAMS = 256
# Who has an address of IPv6 has 2^64 of them.
_ONE_CLIENT = {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}
# What a refusal of the gateway's own means, by status.
_SAYS = {
    401: ("unauthenticated", "the gateway does not know who asks: no key or token, or a wrong one"),
    403: ("forbidden", "the gateway does not let this client ask"),
    404: ("not_found", "no group of servers takes this path"),
    413: ("too_large", "the body is larger than the gateway takes; send fewer rows"),
    429: ("overloaded", "this client asks more often than the gateway allows; ask again later"),
    502: ("not_ready", "a server ended before it answered; ask again"),
    503: ("not_ready", "no server can take this now; ask again later"),
    504: ("deadline_exceeded", "no server answered in time"),
}


def listeners(gateway: Gateway, folder: str | None, contents: Contents) -> list[Resource]:
    """All listeners; routes are read from `folder`, if there is one."""
    host, port = place_of(gateway.bind)
    chain: dict[str, Any] = {"filters": [_http(gateway, folder, contents)]}
    if gateway.tls is not None:
        chain["transport_socket"] = _secure(gateway.tls, contents)
    found = [
        typed(
            "config.listener.v3.Listener",
            name="predictions",
            address=socket_address(host, port),
            enable_reuse_port=False,  # a second gateway must not get a share of the connections
            per_connection_buffer_limit_bytes=BUFFER_BYTES,
            filter_chains=[chain],
        )
    ]
    if gateway.metrics_bind is not None:
        found.append(_metrics(*place_of(gateway.metrics_bind)))
    return found


def _http(gateway: Gateway, folder: str | None, contents: Contents) -> dict[str, Any]:
    filters = []
    if gateway.api_keys_file is not None:
        filters.append(_api_keys(contents.keys))
    if gateway.jwt is not None:
        filters.append(_jwt(gateway.jwt, contents))
    if gateway.rate_limit is not None:
        filters.append(_rate_limit(gateway.rate_limit))
    filters.append(filter_of("http", "router", "Router"))
    return filter_of(
        "network",
        "http_connection_manager",
        "HttpConnectionManager",
        stat_prefix="predictions",
        codec_type="AUTO",  # over plain connections, HTTP/2 with prior knowledge, as gRPC has it
        **_routes(gateway, folder),
        http_filters=filters,
        use_remote_address=True,
        preserve_external_request_id=True,
        normalize_path=True,
        merge_slashes=True,
        early_header_mutation_extensions=[_NOBODYS_CLIENT],
        server_header_transformation="PASS_THROUGH",
        common_http_protocol_options={"idle_timeout": "3600s"},
        request_headers_timeout="10s",
        stream_idle_timeout=seconds(max(IDLE_S, gateway.timeout_s or 0)),
        http2_protocol_options={"max_concurrent_streams": _STREAMS},
        local_reply_config=_refusals(),
        access_log=[_log(everything=gateway.access_log)],
    )


def _routes(gateway: Gateway, folder: str | None) -> dict[str, Any]:
    if folder is None:
        table = routes(gateway)
        return {"route_config": {key: table[key] for key in table if key != "@type"}}
    source = {"path": f"{folder}/routes.json", "watched_directory": {"path": folder}}
    config = {"path_config_source": source, "resource_api_version": "V3"}
    return {"rds": {"route_config_name": ROUTES, "config_source": config}}


def _refusals() -> dict[str, Any]:
    return {
        "mappers": [
            {
                "filter": {
                    "status_code_filter": {
                        "comparison": {
                            "op": "EQ",
                            "value": {"default_value": status, "runtime_key": f"refusal.{status}"},
                        }
                    }
                },
                "body_format_override": {
                    "json_format": {
                        "error": says,
                        "code": code,
                        "request_id": "%REQ(X-REQUEST-ID)%",
                    }
                },
            }
            for status, (code, says) in _SAYS.items()
        ]
    }


def _log(*, everything: bool) -> dict[str, Any]:
    """Lines of JSON on stdout: of all requests, or of those that failed."""
    line = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "server": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "milliseconds": "%DURATION%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    log: dict[str, Any] = {
        "name": "envoy.access_loggers.stdout",
        "typed_config": typed(
            "extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": line}
        ),
    }
    if not everything:
        value = {"default_value": 500, "runtime_key": "access_log.status"}
        log["filter"] = {"status_code_filter": {"comparison": {"op": "GE", "value": value}}}
    return log


def _open_paths() -> dict[str, Any]:
    """The probes: whoever asks whether the gateway's servers are well need not say who it is."""
    return {"path": HEALTH_PATH}


def _api_keys(keys: Mapping[str, str]) -> dict[str, Any]:
    return filter_of(
        "http",
        "api_key_auth",
        "ApiKeyAuth",
        credentials=[{"key": key, "client": name} for name, key in sorted(keys.items())],
        key_sources=[{"header": name} for name in _KEY_HEADERS],
        forwarding={"header": _CLIENT, "hide_credentials": True},
    )


def _jwt(jwt: Jwt, contents: Contents) -> dict[str, Any]:
    provider = {
        "issuer": jwt.issuer,
        "audiences": list(jwt.audiences),
        "local_jwks": contents.of(jwt.jwks_file),
        "clock_skew_seconds": jwt.leeway_s,
        "require_expiration": True,
        "claim_to_headers": [{"header_name": _CLIENT, "claim_name": "sub"}],
    }
    rules = [
        {"match": _open_paths()},
        {"match": {"prefix": "/"}, "requires": {"provider_name": "clients"}},
    ]
    return filter_of(
        "http", "jwt_authn", "JwtAuthentication", providers={"clients": provider}, rules=rules
    )


def _rate_limit(limit: RateLimit) -> dict[str, Any]:
    """A bucket for each client's address, and one that is never empty for what is in none."""
    bucket = {
        "max_tokens": limit.burst or limit.requests_per_s,
        "tokens_per_fill": limit.requests_per_s,
        "fill_interval": "1s",
    }
    endless = {"max_tokens": 2**31, "tokens_per_fill": 2**31, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return filter_of(
        "http",
        "local_ratelimit",
        "LocalRateLimit",
        stat_prefix="clients",
        token_bucket=endless,
        filter_enabled={**always, "runtime_key": "rate_limit.enabled"},
        filter_enforced={**always, "runtime_key": "rate_limit.enforced"},
        rate_limits=[{"actions": [{"masked_remote_address": _ONE_CLIENT}]}],
        descriptors=[{"entries": [{"key": "masked_remote_address"}], "token_bucket": bucket}],
        max_dynamic_descriptors=limit.clients,
        rate_limited_as_resource_exhausted=True,
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}}],
    )


def _secure(tls: Tls, contents: Contents) -> dict[str, Any]:
    pair = {
        "certificate_chain": contents.of(tls.certfile),
        "private_key": contents.of(tls.keyfile),
    }
    common: dict[str, Any] = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]}
    told: dict[str, Any] = {"common_tls_context": common}
    if tls.client_cafile is not None:
        common["validation_context"] = {"trusted_ca": contents.of(tls.client_cafile)}
        told["require_client_certificate"] = True
    context = typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext", **told)
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _metrics(host: str, port: int) -> Resource:
    """Where Prometheus asks, and nobody can do anything else."""
    match = {
        "path": "/stats/prometheus",
        "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
    }
    also = {**match, "path": "/metrics"}
    action = {"cluster": "administration", "timeout": seconds(10)}
    routes = [
        {"match": match, "route": action},
        {"match": also, "route": {**action, "prefix_rewrite": "/stats/prometheus"}},
    ]
    hosts = [{"name": "metrics", "domains": ["*"], "routes": routes}]
    http = filter_of(
        "network",
        "http_connection_manager",
        "HttpConnectionManager",
        stat_prefix="metrics",
        route_config={"virtual_hosts": hosts},
        http_filters=[filter_of("http", "router", "Router")],
    )
    return typed(
        "config.listener.v3.Listener",
        name="metrics",
        address=socket_address(host, port),
        enable_reuse_port=False,
        filter_chains=[{"filters": [http]}],
    )
