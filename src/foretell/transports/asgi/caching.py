"""What a request says to a result cache, and what its reply says of one: in HTTP's words.

Rules:

1. `Cache-Control: no-cache` has the model answer, and keeps that; `no-store` goes past the cache.
   Other directives change nothing. Over gRPC it is metadata of that name.
2. `Cache-Status` is that of RFC 9211, with the cache's name `foretell`; a model without a cache has
   none.
"""

from foretell.core.call import Answer, CacheStatus, CacheUse, Call
from foretell.transports.asgi.exchange import Told

HEADER = b"cache-status"
Headers = tuple[tuple[bytes, bytes], ...]
_HIT, _MISS = b"foretell; hit", b"foretell; fwd=miss"
_ALL_HIT = CacheStatus(1, 0, 0)
_HIT_HEADERS: Headers = ((HEADER, _HIT),)
_FORWARDED = {CacheUse.REFRESH: b"foretell; fwd=request", CacheUse.NONE: b"foretell; fwd=bypass"}


def cache_use_of(told: Told) -> CacheUse:
    """What the request's `Cache-Control` allows."""
    sent = told.get(b"cache-control", b"").lower()
    directives = {part.strip() for part in sent.split(b",")}
    if b"no-store" in directives:
        return CacheUse.NONE
    return CacheUse.REFRESH if b"no-cache" in directives else CacheUse.USE


def call_of(told: Told, request_id: str, deadline: float | None) -> Call:
    """The terms of a request with these headers, for the data plane."""
    if b"cache-control" in told:
        return Call(request_id, deadline, told.get(b"traceparent"), cache_use_of(told))
    return Call(request_id, deadline, told.get(b"traceparent"))


def cache_status(status: CacheStatus) -> bytes:
    """The value of `Cache-Status`."""
    hits, joined, ran = status.hits, status.joined, status.ran
    if status.bypassed:
        return _FORWARDED[CacheUse.NONE]
    if status.use is not CacheUse.USE:
        return _FORWARDED[status.use]
    if hits == 0:
        return _MISS if ran else _MISS + b"; collapsed"
    if not joined and not ran:
        return _HIT
    n_rows = hits + joined + ran
    return b'foretell; fwd=partial; detail="%d of %d rows hit"' % (hits, n_rows)


def cache_headers(answer: Answer) -> Headers:
    """The headers, or trailing metadata, that an answer brings."""
    status = answer.cache
    if status is None:
        return ()
    return _HIT_HEADERS if status == _ALL_HIT else ((HEADER, cache_status(status)),)
