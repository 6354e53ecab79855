"""A watch counts what a stream does, and tells it over HTTP: metrics for Prometheus, and probes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from foretell.engine.fleet import Loaded
from foretell.errors import BadSettings, StartFailed, StoreFailed
from foretell.transports.stream.brokers.waiting import AWAY
from foretell.transports.stream.message import Message, Source
from foretell.transports.stream.scoring import Scored

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_REQUEST_S = 5.0
_LAG_S = 2.0
_MOST_LINES = 100
_COUNTS = {
    "consumed": "Messages that are finished and acknowledged.",
    "published": "Results that were accepted by where they go.",
    "left_out": "Results that the condition did not want.",
    "dead_lettered": "Dead letters that were accepted by where they go.",
}


class Watch:
    """The numbers of one stream."""

    def __init__(self, loaded: Loaded) -> None:
        self._registry = CollectorRegistry()
        told: dict[str, Any] = {
            "registry": self._registry,
            "labelnames": ("model", "model_version"),
        }
        names = (loaded.name, loaded.version)
        self._counts = {
            name: Counter(f"foretell_stream_{name}", text, **told).labels(*names)
            for name, text in _COUNTS.items()
        }
        text = "Messages that were scored together."
        rows = Histogram("foretell_stream_batch_messages", text, buckets=_ROWS, **told)
        self._rows = rows.labels(*names)
        text = "From a message's time, where its broker tells that, until it was finished."
        latency = Histogram("foretell_stream_latency_seconds", text, buckets=_LATENCY_S, **told)
        self._latency = latency.labels(*names)
        text = "Messages that wait in the source, where its broker tells that."
        self._lag = Gauge("foretell_stream_lag_messages", text, registry=self._registry)
        text = "Whether a broker is away, and waited for."
        away = Gauge("foretell_stream_waiting", text, registry=self._registry)
        away.set_function(lambda: float(bool(AWAY)))

    def batch(self, messages: Sequence[Message], scored: Scored) -> None:
        """These are finished."""
        told = (len(messages), len(scored.results), scored.left_out, len(scored.dead))
        for counter, number in zip(self._counts.values(), told, strict=True):
            counter.inc(number)
        self._rows.observe(len(messages))
        now = time.time()
        for message in messages:
            if message.at is not None:
                self._latency.observe(max(now - message.at, 0.0))

    async def metrics(self, source: Source) -> bytes:
        """All of it in Prometheus' text format; a lag that nobody can tell is NaN."""
        lag = None
        with contextlib.suppress(TimeoutError, StoreFailed):
            lag = await asyncio.wait_for(source.lag(), _LAG_S)
        self._lag.set(float("nan") if lag is None else lag)
        return generate_latest(self._registry)

    @contextlib.asynccontextmanager
    async def told(self, bind: str, source: Source) -> AsyncIterator[None]:
        """Answer at `bind` (HOST:PORT) meanwhile. Raises BadSettings, StartFailed."""
        host, _, port = bind.rpartition(":")
        if not host or not port.isdecimal():
            raise BadSettings(f"--metrics-bind {bind}: write it as in 127.0.0.1:9090")

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(
                TimeoutError, ValueError, OSError, asyncio.IncompleteReadError
            ):
                path = await asyncio.wait_for(_path(reader), _REQUEST_S)
                writer.write(await self._reply(path, source))
                await writer.drain()
            writer.close()

        try:
            server = await asyncio.start_server(answer, host.strip("[]"), int(port))
        except (OSError, OverflowError) as error:
            raise StartFailed(f"--metrics-bind {bind} cannot be used: {error}") from None
        try:
            yield
        finally:
            server.close()

    async def _reply(self, path: str, source: Source) -> bytes:
        status, body = "200 OK", b"ok\n"
        if path == "/metrics":
            body = await self.metrics(source)
        elif path == "/health/ready" and AWAY:
            names = ", ".join(sorted({one.broker for one in AWAY}))
            status, body = "503 Service Unavailable", f"waiting for {names}\n".encode()
        elif path not in ("/health/live", "/health/ready"):
            status, body = "404 Not Found", b"there are /metrics, /health/live and /health/ready\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


async def _path(reader: asyncio.StreamReader) -> str:
    """What a GET asks for; empty for anything else."""
    line = (await reader.readline()).decode("latin-1").split(" ")
    for _ in range(_MOST_LINES):
        if not (await reader.readline()).strip():
            break
    return line[1].partition("?")[0] if len(line) == 3 and line[0] == "GET" else ""
