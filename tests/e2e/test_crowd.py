"""A crowd at full speed: 200 clients of HTTP/1.1 and 50 of gRPC, all on connections they keep."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from foretell.codecs import messages
from tests.e2e.test_leaving import stopped
from tests.e2e.test_load import until
from tests.servers import Server, running

pytestmark = pytest.mark.slow

HTTP_CLIENTS, GRPC_CLIENTS = 200, 50
RELOADS, WORKERS = 3, 2
GRACE_S = "2"
"""Longer than any of them waits for its turn: who has not asked meanwhile was not told."""
FEATURES = [35.0, 24, 65.5, 1572.0]
BODY = json.dumps({"features": FEATURES}).encode()
REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: crowd\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Crowd:
    """Clients that ask until they are told to stop, or the server says that it closes.

    Every failure is kept in `failures`; `answered` counts by protocol.
    """

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._host, self._port = parts.hostname, parts.port
        self._address = parts.netloc
        self.stopped = asyncio.Event()
        self.ends_when_closed = False
        self.answered: Counter[str] = Counter()
        self.failures: list[str] = []

    async def ask_over_http(self) -> None:
        """Requests on one connection, and on a new one whenever the server closes the last."""
        while not self.stopped.is_set():
            reader, writer = await asyncio.open_connection(self._host, self._port)
            try:
                is_kept = True
                while is_kept and not self.stopped.is_set():
                    is_kept = await self._exchange(reader, writer)
            except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
                self.failures.append(f"http: {error!r}")
                return
            finally:
                writer.close()
            if self.ends_when_closed:
                return

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection is kept."""
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        assert head.startswith(b"http/1.1 200"), head + body
        assert json.loads(body)["model_version"] == "1.0.0"
        self.answered["http"] += 1
        return b"connection: close" not in head

    async def ask_over_grpc(self) -> None:
        """Calls on one channel, which connects anew by itself."""
        request = messages.message("prediction.PredictRequest")(features=FEATURES)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            predict: Any = channel.unary_unary(
                "/prediction.PredictionService/Predict",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=messages.message("prediction.PredictResponse").FromString,
            )
            while not self.stopped.is_set():
                try:
                    await predict(request, timeout=30)
                except grpc.aio.AioRpcError as error:
                    self.failures.append(f"grpc: {error.code()} {error.details()}")
                    return
                self.answered["grpc"] += 1


@asynccontextmanager
async def crowd(server: Server, *, over_grpc: bool = True) -> AsyncIterator[Crowd]:
    """A crowd at work, and at its end all of it home."""
    one = Crowd(server)
    asking = [one.ask_over_http() for _ in range(HTTP_CLIENTS)]
    if over_grpc:
        asking += [one.ask_over_grpc() for _ in range(GRPC_CLIENTS)]
    tasks = [asyncio.create_task(ask) for ask in asking]
    try:
        yield one
    finally:
        one.stopped.set()
        await asyncio.gather(*tasks)


def test_reloads_lose_no_call_of_a_crowd(churn: Path) -> None:
    async def reload(server: Server) -> Crowd:
        async with crowd(server) as one:
            for turn in range(1, RELOADS + 1):
                server.process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(until, partial(stopped, server, turn * WORKERS))
        return one

    with running(churn, "--workers", str(WORKERS), "--drain-grace-s", GRACE_S) as server:
        one = asyncio.run(reload(server))
    assert one.failures == []
    assert one.answered["http"] > HTTP_CLIENTS
    assert one.answered["grpc"] > GRPC_CLIENTS


def test_a_stop_loses_no_call_of_a_crowd_that_listens(churn: Path) -> None:
    async def stop(server: Server) -> Crowd:
        async with crowd(server, over_grpc=False) as one:
            await asyncio.to_thread(until, lambda: one.answered["http"] > 2 * HTTP_CLIENTS)
            one.ends_when_closed = True
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until, lambda: server.process.poll() is not None)
        return one

    with running(churn, "--workers", str(WORKERS), "--drain-grace-s", GRACE_S) as server:
        one = asyncio.run(stop(server))
        assert one.failures == []
        assert server.ended() == 0
