"""A balancer says which server takes the next call, and keeps failing ones out for a while.

Rules:

1. `round_robin` and `weighted` take turns smoothly: of as many calls as the weights add up to,
   each server gets its weight, spread out.
2. `least_outstanding` takes the server with the fewest calls under way for its weight, and those
   that are equal in turn. `hash` gives a key to the same server as long as that one is there;
   when it is not, only its keys move (rendezvous hashing).
3. A server that fails `failures` times in a row (a short silence counts for less) is out for
   `out_s`, twice as long each time it fails again, up to `most_out_s`. Then one call tries it:
   an answer brings it back.
4. The last one in service is never put out.
5. A call that is sent again goes where it has not been, while there is such a server.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from foretell.errors import BadSettings

Balance = Literal["round_robin", "least_outstanding", "hash", "weighted"]
SCHEMES = ("http", "https", "grpc", "grpcs")


@dataclass(slots=True, eq=False)
class Upstream:
    """One server: its base URL and weight, and how it fares."""

    url: str
    weight: float = 1.0
    outstanding: int = 0
    credit: float = 0.0
    failures: float = 0.0
    times_out: int = 0
    out_until: float | None = None
    tried: bool = False
    back_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Ejection:
    """When a server is left out, and for how long."""

    failures: int = 3
    out_s: float = 1.0
    most_out_s: float = 30.0


class Turn(NamedTuple):
    """One attempt's server; `trial` when it is to show whether the server is back."""

    upstream: Upstream
    trial: bool


Urls = str | Sequence[str] | Mapping[str, float]


def upstreams_of(urls: Urls) -> list[Upstream]:
    """The servers that `urls` name: one URL or several, as URL=WEIGHT or with their weights.

    Raises BadSettings.
    """
    if isinstance(urls, Mapping):
        found = [Upstream(url, weight) for url, weight in urls.items()]
    else:
        found = [_weighed(url) for url in ([urls] if isinstance(urls, str) else urls)]
    if not found:
        raise BadSettings("no URL of a server is given; give one, as in http://127.0.0.1:8000")
    for upstream in found:
        upstream.url = _checked(upstream.url)
        if not (0 < upstream.weight < math.inf):
            raise BadSettings(f"the weight of {upstream.url} must be a number greater than 0")
    places = [upstream.url for upstream in found]
    twice = sorted({url for url in places if places.count(url) > 1})
    if twice:
        raise BadSettings(f"{twice[0]} is given twice; give it once, with a weight")
    if len({url.startswith("grpc") for url in places}) > 1:
        raise BadSettings("a client speaks REST or gRPC; give either http(s):// or grpc(s):// URLs")
    return found


def _weighed(told: str) -> Upstream:
    url, equals, weight = told.rpartition("=")
    if not equals:
        return Upstream(told)
    try:
        return Upstream(url, float(weight))
    except ValueError:
        raise BadSettings(f"{told!r} has the weight {weight!r}; write URL=NUMBER") from None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        usable = parts.scheme in SCHEMES and host != b"" and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or any(sign.isspace() for sign in url):
        raise BadSettings(
            f"{url!r} is no address of a server; write http://HOST:PORT, https://HOST:PORT, "
            "grpc://HOST:PORT or grpcs://HOST:PORT"
        )
    if parts.scheme.startswith("grpc") and parts.path.strip("/"):
        raise BadSettings(f"{url} has a path, which gRPC has not; write {parts.scheme}://HOST:PORT")
    return url.rstrip("/")


class Balancer:
    """Chooses among servers; may be asked from any thread. Times are seconds of one clock."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        balance: Balance = "round_robin",
        ejection: Ejection | None = None,
    ) -> None:
        if balance not in get_args(Balance):
            known = ", ".join(get_args(Balance))
            raise BadSettings(f"balance is {balance!r}, but must be one of {known}")
        if balance == "round_robin" and len({upstream.weight for upstream in upstreams}) > 1:
            raise BadSettings("round_robin knows no weights; take balance='weighted'")
        self.upstreams = tuple(upstreams)
        self._balance = balance
        self._ejection = ejection or Ejection()
        self._lock = threading.Lock()

    def check_key(self, key: str | None) -> None:
        """Raise BadSettings when a call has a key that nobody uses, or lacks one."""
        if self._balance == "hash" and key is None:
            raise BadSettings("balance='hash' chooses by a key; give key= with each call")
        if self._balance != "hash" and key is not None:
            raise BadSettings(f"balance={self._balance!r} uses no key; take balance='hash'")

    def choose(
        self, now: float, key: str | None = None, rests: Mapping[Upstream, float] | None = None
    ) -> Turn:
        """The server of the next attempt, which `settle` must be told about.

        `rests` has those the call has been to, and until when they want to be left alone.
        """
        with self._lock:
            chosen = self._pick(_preferred(self._open(now), now, rests or {}), key)
            trial = chosen.out_until is not None
            chosen.tried = trial
            chosen.outstanding += 1
            return Turn(chosen, trial)

    def ready_at(self, now: float, rests: Mapping[Upstream, float]) -> float:
        """When `choose` has a server that need not be left alone."""
        with self._lock:
            return min(rests.get(upstream, now) for upstream in self._open(now))

    def settle(self, turn: Turn, good: bool | None, now: float, *, weight: float = 1.0) -> None:
        """How the attempt ended: whether the server does its work; None: nobody knows.

        `weight` is how much of a failure it is when it does not.
        """
        upstream, trial = turn
        with self._lock:
            upstream.outstanding -= 1
            if trial:
                upstream.tried = False
            if good:
                upstream.failures = 0.0
                if trial:
                    upstream.out_until, upstream.back_at = None, now
            elif good is not None and trial:
                self._put_out(upstream, now)
            elif good is not None and upstream.out_until is None:
                upstream.failures += weight
                if upstream.failures >= self._ejection.failures and self._has_others(upstream):
                    if now - upstream.back_at > self._ejection.most_out_s:
                        upstream.times_out = 0
                    self._put_out(upstream, now)

    def _open(self, now: float) -> list[Upstream]:
        """Those in service, and those that are due for a trial."""
        return [
            upstream
            for upstream in self.upstreams
            if upstream.out_until is None or (upstream.out_until <= now and not upstream.tried)
        ]

    def _pick(self, candidates: list[Upstream], key: str | None) -> Upstream:
        if self._balance == "hash":
            return max(candidates, key=lambda upstream: _score(upstream, key or ""))
        if self._balance == "least_outstanding":
            loads = [(upstream.outstanding + 1) / upstream.weight for upstream in candidates]
            least = min(loads)
            candidates = [u for u, load in zip(candidates, loads, strict=True) if load == least]
        for upstream in candidates:
            upstream.credit += upstream.weight
        chosen = max(candidates, key=lambda upstream: upstream.credit)
        chosen.credit -= sum(upstream.weight for upstream in candidates)
        return chosen

    def _has_others(self, upstream: Upstream) -> bool:
        return any(u.out_until is None for u in self.upstreams if u is not upstream)

    def _put_out(self, upstream: Upstream, now: float) -> None:
        rules = self._ejection
        # the exponent is bounded: a server may be out for years
        out_s = min(rules.most_out_s, rules.out_s * 2 ** min(upstream.times_out, 64))
        upstream.out_until = now + out_s
        upstream.times_out += 1
        upstream.failures = upstream.credit = 0.0


def _preferred(
    candidates: list[Upstream], now: float, rests: Mapping[Upstream, float]
) -> list[Upstream]:
    """Those where the call has not been; else those that have rested; else all."""
    return (
        [upstream for upstream in candidates if upstream not in rests]
        or [upstream for upstream in candidates if rests[upstream] <= now]
        or candidates
    )


def _score(upstream: Upstream, key: str) -> float:
    """Weighted rendezvous hashing: -weight / ln(hash), the hash between 0 and 1, never either."""
    digest = blake2b(f"{upstream.url}\0{key}".encode(errors="surrogatepass"), digest_size=8)
    bits = int.from_bytes(digest.digest()) >> 12
    return -upstream.weight / math.log((bits + 0.5) / 2**52)
