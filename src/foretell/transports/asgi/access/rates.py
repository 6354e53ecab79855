"""Rates are how often a client may ask: so many requests a second, some at once after a pause.

Rules:

1. A client is who its key or token says, else its address; of IPv6 the network (/64), which is
   what one customer has. Known callers are kept apart from addresses, which can be many.
2. One number a client: when its requests so far would be due if they came evenly (the generic
   cell rate algorithm). No window has an edge at which twice as many pass.
3. Memory is bounded: clients are kept in two generations, and when the younger is full, the older
   is forgotten; whoever was in it alone begins anew.
4. Each worker counts for itself.
"""

import time
from collections.abc import Callable, Hashable
from functools import lru_cache
from ipaddress import IPv6Address

from starlette.types import Scope

from foretell.errors import Overloaded
from foretell.transports.asgi.access.grants import Grant

_MOST_IN_A_GENERATION = 32_768
_ROUNDING_S = 1e-9
_Client = Hashable


class Rates:
    """Lets each client ask `per_s` times a second, `burst` times at once after a pause."""

    def __init__(
        self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._interval = 1 / per_s
        self._ahead = (burst - 1) / per_s + _ROUNDING_S
        self._clock = clock
        self._callers, self._addresses = _Generations(), _Generations()

    def count(self, caller: Grant) -> None:
        """Count a request of a known caller. Raises Overloaded."""
        self._count(self._callers, (caller.kind, caller.name))

    def count_stranger(self, scope: Scope) -> None:
        """Count a request of an address. Raises Overloaded."""
        client = scope.get("client")
        host = client[0] if client else ""
        self._count(self._addresses, _network_of(host) if ":" in host else host)

    def _count(self, clients: "_Generations", client: _Client) -> None:
        now = self._clock()
        due = max(clients.due(client), now)
        early = due - now - self._ahead
        clients.keep(client, due if early > 0 else due + self._interval)
        if early > 0:
            raise Overloaded(
                f"more than {self._per_s:g} requests a second came from this client; wait, or "
                "send more rows at once",
                retry_after_s=early,
            )


class _Generations:
    """When the next request of each client is due, of those that asked lately."""

    __slots__ = ("_former", "_recent")

    def __init__(self) -> None:
        self._recent: dict[_Client, float] = {}
        self._former: dict[_Client, float] = {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._former)

    def due(self, client: _Client) -> float:
        due = self._recent.get(client)
        return self._former.get(client, 0.0) if due is None else due

    def keep(self, client: _Client, due: float) -> None:
        self._recent[client] = due
        if len(self._recent) >= _MOST_IN_A_GENERATION:
            self._former, self._recent = self._recent, {}


@lru_cache(maxsize=4096)
def _network_of(host: str) -> int | str:
    """The network of an IPv6 address, or the IPv4 address that is written as one."""
    try:
        address = IPv6Address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped) if address.ipv4_mapped else int(address) >> 64
