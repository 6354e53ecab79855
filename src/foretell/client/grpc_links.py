"""A gRPC link sends attempts with grpcio: from threads, or from an event loop.

grpcio's own retries are off: there is one place that knows when to send again.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foretell.client.calling import Attempt, Kind, Outcome, Reply
from foretell.client.failures import too_long
from foretell.client.http_links import LinkOptions
from foretell.client.rpc import outcome_of
from foretell.errors import BadSettings, MissingExtra

DEFAULT_PORT = 50051
# So grpcio says of answers. Of what it was sent, a server's may: with its own limit, not unpacked.
_TOO_LONG, _TOO_LONG_UNPACKED = "message larger than max", "Decompressed message larger than max"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # who is out, and for how long, is the balancer's business
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # how long a connection may take, in fact
    ("grpc.max_reconnect_backoff_ms", 1000),
    # each client has connections of its own, as its close() says
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcLink:
    """Sends from any thread; one channel a server."""

    def __init__(self, options: LinkOptions, urls: Iterable[str]) -> None:
        self._grpc = _grpc()
        self._metadata = _metadata(options)
        self._most = options.max_reply_bytes
        self._channels = _channels(self._grpc, self._grpc, options, urls)

    def exchange(self, attempt: Attempt) -> Outcome:
        """Send `attempt` once, and say what came of it."""
        call = self._channels[attempt.url].unary_unary(attempt.request.path)
        try:
            body = call(attempt.request.body, timeout=attempt.timeout_s, metadata=self._metadata)
        except self._grpc.RpcError as error:
            return _failed(error, attempt.url, self._most)
        return Outcome(Kind.ANSWERED, Reply(body))

    def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            channel.close()


class AsyncGrpcLink:
    """Sends on the event loop it was made on."""

    def __init__(self, options: LinkOptions, urls: Iterable[str]) -> None:
        self._grpc = _grpc()
        self._metadata = _metadata(options)
        self._most = options.max_reply_bytes
        self._channels = _channels(self._grpc, self._grpc.aio, options, urls)

    async def exchange(self, attempt: Attempt) -> Outcome:
        """Send `attempt` once, and say what came of it."""
        call = self._channels[attempt.url].unary_unary(attempt.request.path)
        try:
            body = await call(
                attempt.request.body, timeout=attempt.timeout_s, metadata=self._metadata
            )
        except self._grpc.RpcError as error:
            return _failed(error, attempt.url, self._most)
        return Outcome(Kind.ANSWERED, Reply(body))

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.close()


def _grpc() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise MissingExtra(
            "grpc:// URLs need grpcio: pip install 'foretell[client]'; or take http://"
        ) from error
    return grpc


def _credentials(grpc: Any, options: LinkOptions) -> Any:
    if options.http2:
        raise BadSettings("gRPC is HTTP/2 already; leave http2 out")
    if options.verify is False:
        raise BadSettings(
            "gRPC cannot do without trust; give verify= the PEM file of the server's authority"
        )
    try:
        authority = None if options.verify is True else Path(options.verify).read_bytes()
        certificate = key = None
        if isinstance(options.cert, tuple):
            certificate, key = (Path(part).read_bytes() for part in options.cert)
        elif options.cert is not None:
            certificate = key = Path(options.cert).read_bytes()
    except OSError as error:
        raise BadSettings(f"the certificates cannot be read: {error}") from error
    return grpc.ssl_channel_credentials(authority, key, certificate)


def _metadata(options: LinkOptions) -> tuple[tuple[str, str], ...]:
    if options.api_key is None:
        return ()
    return (("authorization", f"Bearer {options.api_key}"),)


def _channels(grpc: Any, flavour: Any, options: LinkOptions, urls: Iterable[str]) -> dict[str, Any]:
    """A channel for each URL, of grpcio's synchronous or asynchronous flavour."""
    credentials = _credentials(grpc, options)
    told = (*_OPTIONS, ("grpc.max_receive_message_length", options.max_reply_bytes))
    made = {}
    for url in urls:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        place = f"{host}:{parts.port or DEFAULT_PORT}"
        if parts.scheme == "grpcs":
            made[url] = flavour.secure_channel(place, credentials, told)
        else:
            made[url] = flavour.insecure_channel(place, told)
    return made


def _failed(error: Any, url: str, most: int) -> Outcome:
    """What grpcio raised, as an outcome."""
    trailers, words = error.trailing_metadata() or (), error.details() or ""
    if _TOO_LONG_UNPACKED in words or (_TOO_LONG in words and f" vs. {most})" in words):
        return Outcome(Kind.ANSWERED, error=too_long(url, most))
    return outcome_of(error.code().value[0], words, trailers, url)
