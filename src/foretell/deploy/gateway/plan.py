"""A plan is what one chooses of a gateway: where it listens, who answers, and who may ask.

Rules:

1. It is checked as a whole when it is made; ValueError says what is wrong, and what to do.
2. A group is a number of servers that serve the same. What no group claims goes to the default
   one, part of it, or what carries a header, to its canary.
3. Units are in the names.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_HEADER = re.compile(r"[A-Za-z0-9-]+(=.*)?")
_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9_.-]+))(?::(?P<port>\d{1,5}))?/?"
)
_PORTS = {"http": 80, "https": 443}
_PORTS_END = 65536
# What a number may be: the least and the most.
_BOUNDS: dict[str, tuple[float, float]] = {
    "timeout_s": (0.001, 86_400),
    "connect_timeout_s": (0.001, 60),
    "health_every_s": (0.05, 3600),
    "drain_grace_s": (0, 3600),
    "max_body_bytes": (1, 2**62),
    "max_connections": (1, 2**31 - 1),
    "requests_per_s": (1, 10**9),
    "burst": (0, 10**9),
    "clients": (1, 10**7),
    "leeway_s": (0, 3600),
    "percent": (0, 100),
}
DEFAULT = "default"
"""The group of what no other group claims."""


class Strategy(StrEnum):
    """Which server of a group takes a call."""

    ROUND_ROBIN = "round_robin"
    LEAST_CONNECTIONS = "least_connections"
    IP_HASH = "ip_hash"
    WEIGHTED = "weighted"


class Retries(StrEnum):
    """What is asked of another server: all (a prediction changes nothing), or what never left."""

    ALL = "all"
    UNSENT = "unsent"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One server, or all addresses of a name; `weight` is its share, from 1 up."""

    host: str
    port: int
    secure: bool = False
    weight: int | None = None

    @classmethod
    def of(cls, told: str) -> Self:
        """That of `http(s)://HOST[:PORT][=WEIGHT]`. Raises ValueError."""
        url, equals, weight = told.partition("=")
        found = _URL.fullmatch(url.lower())
        host = "" if found is None else _host(found["v6"] or found["host"])
        port = 0 if found is None else int(found["port"] or _PORTS[found["scheme"]])
        if found is None or not host or not 0 < port < _PORTS_END:
            raise ValueError(
                f"{told!r} is no server; take http://HOST:PORT or https://HOST:PORT, "
                "with =WEIGHT behind it for the strategy weighted"
            )
        if equals and not (weight.isdigit() and 1 <= int(weight) <= 128):
            raise ValueError(f"{told!r}: a weight is a whole number from 1 to 128")
        return cls(host, port, found["scheme"] == "https", int(weight) if equals else None)

    @property
    def is_address(self) -> bool:
        """Whether its host needs no looking up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Group:
    """Servers of the same models: those `models`, and paths that begin with `prefixes`."""

    upstreams: tuple[Upstream, ...]
    strategy: Strategy = Strategy.ROUND_ROBIN
    models: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise ValueError("there is no server; name at least one upstream")
        places = Counter(map(str, self.upstreams))
        twice = [place for place, count in places.items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0]} is named twice")
        if len({upstream.secure for upstream in self.upstreams}) > 1:
            raise ValueError("some upstreams are https and some http; put them into two groups")
        weighted = [upstream for upstream in self.upstreams if upstream.weight is not None]
        if self.strategy is Strategy.WEIGHTED and len(weighted) < len(self.upstreams):
            raise ValueError("the strategy weighted needs =WEIGHT behind each upstream")
        if self.strategy is not Strategy.WEIGHTED and weighted:
            raise ValueError(
                f"{weighted[0]} has a weight, which only the strategy weighted looks at"
            )
        for prefix in self.prefixes:
            if not prefix.startswith("/") or "?" in prefix:
                raise ValueError(f"{prefix!r} is no prefix of a path; begin it with /")

    @property
    def secure(self) -> bool:
        """Whether its servers are asked over TLS."""
        return self.upstreams[0].secure


@dataclass(frozen=True, slots=True)
class Canary:
    """Who tries a new version: `percent` of the calls, and all that carry `header`."""

    upstreams: tuple[Upstream, ...]
    percent: int = 0
    header: str | None = None
    strategy: Strategy = Strategy.ROUND_ROBIN

    def __post_init__(self) -> None:
        _refuse_beyond(self, "percent")
        if self.header is not None and not _HEADER.fullmatch(self.header):
            raise ValueError(f"header is {self.header!r}; take NAME or NAME=VALUE")
        if not self.percent and self.header is None:
            raise ValueError("nobody asks it; give percent or header")

    @property
    def group(self) -> Group:
        """Its servers."""
        return Group(self.upstreams, self.strategy)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests a second one client may make, and how many at once after a pause."""

    requests_per_s: int
    burst: int = 0
    clients: int = 10_000

    def __post_init__(self) -> None:
        _refuse_beyond(self, "requests_per_s", "burst", "clients")
        if self.burst and self.burst < self.requests_per_s:
            raise ValueError("burst is less than requests_per_s; leave it out, or raise it")


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates in PEM files; with `client_cafile`, clients need one of these authorities."""

    certfile: str
    keyfile: str
    client_cafile: str | None = None


@dataclass(frozen=True, slots=True)
class Jwt:
    """Who signs tokens (`jwks_file`: a JSON Web Key Set), and what they must say."""

    issuer: str
    jwks_file: str
    audiences: tuple[str, ...] = ()
    leeway_s: int = 60

    def __post_init__(self) -> None:
        _refuse_beyond(self, "leeway_s")
        if not self.issuer or not self.audiences:
            raise ValueError("a token is for somebody: give issuer and audiences")


@dataclass(frozen=True, slots=True)
class Gateway:
    """All of it. `upstreams` and `strategy` are the default group's."""

    upstreams: tuple[Upstream, ...] = ()
    strategy: Strategy = Strategy.ROUND_ROBIN
    bind: str = "127.0.0.1:8080"
    metrics_bind: str | None = None
    timeout_s: float | None = None
    connect_timeout_s: float = 1.0
    health_every_s: float = 1.0
    retries: Retries = Retries.ALL
    max_body_bytes: int = 64 * 2**20
    max_connections: int = 10_000
    drain_grace_s: float = 1.0
    access_log: bool = False
    upstream_cafile: str | None = None
    groups: dict[str, Group] = field(default_factory=dict)
    canary: Canary | None = None
    rate_limit: RateLimit | None = None
    api_keys_file: str | None = None
    jwt: Jwt | None = None
    tls: Tls | None = None

    def __post_init__(self) -> None:
        for name in ("bind", "metrics_bind"):
            told = getattr(self, name)
            if told is not None:
                place_of(told)
        _refuse_beyond(self, "connect_timeout_s", "health_every_s", "drain_grace_s")
        _refuse_beyond(self, "max_body_bytes", "max_connections")
        if self.timeout_s is not None:
            _refuse_beyond(self, "timeout_s")
        if self.api_keys_file is not None and self.jwt is not None:
            raise ValueError("api_keys_file and jwt both say who may ask; take one of them")
        for name, group in self.groups.items():
            if not _NAME.fullmatch(name) or name in (DEFAULT, "canary"):
                raise ValueError(f"{name!r} is no name for a group; take another one")
            if not group.models and not group.prefixes:
                raise ValueError(f"nothing goes to the group {name}; give it models or prefixes")
        _refuse_twice((name, group.models) for name, group in self.groups.items())
        prefixes = ((name, group.prefixes) for name, group in self.groups.items())
        _refuse_twice((name, tuple(one.rstrip("/") for one in told)) for name, told in prefixes)
        if not self.upstreams and (self.canary or not self.groups):
            raise ValueError("there is no server; name at least one: --upstream http://HOST:PORT")
        secure = any(group.secure for group in self.all_groups().values())
        if secure and self.upstream_cafile is None:
            raise ValueError("who signs for https upstreams? give upstream_cafile, a PEM file")

    def all_groups(self) -> dict[str, Group]:
        """The groups by name, the default one and the canary included."""
        found = dict(self.groups)
        if self.upstreams:
            found[DEFAULT] = Group(self.upstreams, self.strategy)
        if self.canary is not None:
            found["canary"] = self.canary.group
        return found


def place_of(told: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError."""
    host, _, port = told.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{told!r} is no address; take HOST:PORT, as in 127.0.0.1:8080")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            f"{told!r}: the gateway listens on an address, not a name; take 0.0.0.0 for all"
        ) from None
    return host, int(port)


def _host(told: str) -> str:
    """A name, or an address as it is written shortest; empty when it is none."""
    try:
        return str(ipaddress.ip_address(told))
    except ValueError:
        return "" if ":" in told else told


def _refuse_beyond(told: object, *names: str) -> None:
    for name in names:
        value, (least, most) = getattr(told, name), _BOUNDS[name]
        if not least <= value <= most:  # NaN is not either
            raise ValueError(f"{name} is {value}, but must be from {least:,} to {most:,}")


def _refuse_twice(claims: Iterable[tuple[str, tuple[str, ...]]]) -> None:
    known: dict[str, str] = {}
    for name, told in claims:
        for claim in told:
            if claim in known:
                raise ValueError(f"{claim!r} goes to two groups, {known[claim]} and {name}")
            known[claim] = name
