"""An HTTP link sends attempts with httpx: from threads, or from an event loop."""

import asyncio
import math
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.client.calling import Attempt, Kind, Outcome
from foretell.client.failures import broken, late, too_long, unreachable, untrusted
from foretell.client.rest import outcome_of
from foretell.errors import BadSettings, MissingExtra, NoAnswer

_MOST_TIMEOUT_MS = 24 * 60 * 60 * 1000
_MOST_CONNECTIONS = 128
"""To one server; calls beyond wait for one of them."""
_IDLE_S = 5.0
_CONNECT_S = 5.0
"""Who does not take a connection within this time is not there; another server is asked."""


MAX_REPLY_BYTES = 256 * 2**20
"""Four times the largest body of a server's defaults: answers may have more columns."""


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How connections are made.

    `verify`: True trusts the usual authorities, a path those in that PEM file, False anybody.
    `cert`: the client's own certificate and key, as one PEM file or two. Of an answer no more
    than `max_reply_bytes` are taken, unpacked.
    """

    api_key: str | None = None
    verify: bool | str | Path = True
    cert: str | Path | tuple[str | Path, str | Path] | None = None
    http2: bool = False
    max_reply_bytes: int = MAX_REPLY_BYTES


class _Left(dict[str, Any]):
    """httpcore's timeouts, which it asks for before each step: what is left of one deadline."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline

    def get(self, key: str, default: Any = None) -> Any:
        left_s = max(0.0, self.deadline - time.monotonic())
        if key == "connect":
            return min(left_s, _CONNECT_S)
        return None if left_s == math.inf else left_s

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline


class HttpLink:
    """Sends from any thread; each server has connections of its own, which are kept."""

    def __init__(self, options: LinkOptions, urls: Iterable[str]) -> None:
        self._httpx = _httpx()
        self._headers = _headers(options)
        self._most = options.max_reply_bytes
        self._clients = _clients(self._httpx, self._httpx.Client, options, urls)

    def exchange(self, attempt: Attempt) -> Outcome:
        """Send `attempt` once, and say what came of it."""
        left_s = math.inf if attempt.timeout_s is None else attempt.timeout_s
        timeout = _Left(time.monotonic() + left_s)
        try:
            request = _request(self._httpx, attempt, self._headers, timeout)
            response = self._clients[attempt.url].send(request, stream=True)
            try:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if timeout.over:
                        return Outcome(Kind.SILENT, error=late(attempt.url))
                    if len(body) > self._most:
                        return _too_long(attempt.url, self._most)
            finally:
                response.close()
        except _failures(self._httpx) as error:
            return _failed(self._httpx, error, attempt.url, late_by_now=timeout.over)
        return outcome_of(response.status_code, response.headers, bytes(body), attempt.url)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


class AsyncHttpLink:
    """Sends on the event loop it was made on.

    A call that is cancelled just when httpcore's pool gives it a connection keeps that for ever,
    until there are none left. So calls wait for one here, and late ones are not cancelled: each
    step of httpcore ends at the deadline by itself, and what comes of a body is looked at.
    """

    def __init__(self, options: LinkOptions, urls: Iterable[str]) -> None:
        self._httpx = _httpx()
        self._headers = _headers(options)
        self._most = options.max_reply_bytes
        self._clients = _clients(self._httpx, self._httpx.AsyncClient, options, urls)
        self._room = {url: asyncio.Semaphore(_MOST_CONNECTIONS) for url in self._clients}

    async def exchange(self, attempt: Attempt) -> Outcome:
        """Send `attempt` once, and say what came of it."""
        left_s = math.inf if attempt.timeout_s is None else attempt.timeout_s
        timeout = _Left(time.monotonic() + left_s)
        room = self._room[attempt.url]
        try:
            async with asyncio.timeout(attempt.timeout_s):
                await room.acquire()
        except TimeoutError:
            return Outcome(Kind.SILENT, error=late(attempt.url))
        try:
            request = _request(self._httpx, attempt, self._headers, timeout)
            response = await self._clients[attempt.url].send(request, stream=True)
            try:
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if timeout.over:
                        return Outcome(Kind.SILENT, error=late(attempt.url))
                    if len(body) > self._most:
                        return _too_long(attempt.url, self._most)
            finally:
                await response.aclose()
        except _failures(self._httpx) as error:
            return _failed(self._httpx, error, attempt.url, late_by_now=timeout.over)
        finally:
            room.release()
        return outcome_of(response.status_code, response.headers, bytes(body), attempt.url)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()


def _too_long(url: str, most: int) -> Outcome:
    return Outcome(Kind.ANSWERED, error=too_long(url, most))


def _failures(httpx: Any) -> tuple[type[Exception], ...]:
    """What httpx raises for an attempt; TLS errors come as they are."""
    return httpx.HTTPError, httpx.InvalidURL, OSError


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtra("the client needs httpx: pip install 'foretell[client]'") from error
    return httpx


def _headers(options: LinkOptions) -> dict[str, str]:
    return {} if options.api_key is None else {"authorization": f"Bearer {options.api_key}"}


def _clients(httpx: Any, kind: Any, options: LinkOptions, urls: Iterable[str]) -> dict[str, Any]:
    """A client of httpx for each URL."""
    told = {
        "verify": _tls(httpx, options),
        "http1": not options.http2,  # so that a server without TLS is spoken to in HTTP/2, too
        "http2": options.http2,
        "timeout": None,
        "trust_env": False,
        "limits": httpx.Limits(
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=_MOST_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
        ),
    }
    try:
        return {url: kind(**told) for url in urls}
    except ImportError as error:
        raise MissingExtra("HTTP/2 needs h2: pip install 'foretell[client]'") from error


def _tls(httpx: Any, options: LinkOptions) -> ssl.SSLContext:
    try:
        if isinstance(options.verify, bool):
            context: ssl.SSLContext = httpx.create_ssl_context(options.verify, trust_env=False)
        else:
            context = ssl.create_default_context(cafile=str(options.verify))
        if isinstance(options.cert, tuple):
            context.load_cert_chain(*map(str, options.cert))
        elif options.cert is not None:
            context.load_cert_chain(str(options.cert))
    except OSError as error:  # ssl.SSLError is one
        named = [str(part) for part in (options.verify, options.cert) if not isinstance(part, bool)]
        raise BadSettings(f"the certificates {', '.join(named)} cannot be used: {error}") from error
    return context


def _request(httpx: Any, attempt: Attempt, headers: dict[str, str], timeout: dict[str, Any]) -> Any:
    asked = attempt.request
    told = {**asked.headers, **headers}
    if attempt.timeout_s is not None:
        left_ms = min(_MOST_TIMEOUT_MS, max(1, int(attempt.timeout_s * 1000)))
        told["x-request-timeout-ms"] = str(left_ms)
    return httpx.Request(
        asked.method,
        attempt.url + asked.path,
        headers=told,
        content=asked.body or None,
        extensions={"timeout": timeout},
    )


def _failed(httpx: Any, error: Exception, url: str, *, late_by_now: bool) -> Outcome:
    """What httpx raised, as an outcome."""
    why = str(error) or type(error).__name__
    match error:
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in why:
            return Outcome(Kind.SPOILT, error=untrusted(url, why))
        case _ if "CERTIFICATE_REQUIRED" in why:
            words = f"{url} asks for a client certificate; give one with cert= (--certfile)"
            return Outcome(Kind.SPOILT, error=NoAnswer(words))
        case httpx.ConnectTimeout() if not late_by_now:
            words = f"nobody took the connection within {_CONNECT_S:.0f} s"
            return Outcome(Kind.REFUSED, error=unreachable(url, words))
        case httpx.ConnectError():
            return Outcome(Kind.REFUSED, error=unreachable(url, why))
        case httpx.TimeoutException():
            return Outcome(Kind.SILENT, error=late(url))
        case httpx.NetworkError() | httpx.RemoteProtocolError() | OSError():
            return Outcome(Kind.BROKEN, error=broken(url, why))
        case _:
            return Outcome(Kind.SPOILT, error=NoAnswer(f"{url} cannot be asked: {why}"))
