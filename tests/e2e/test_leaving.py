"""A server that stops, or replaces its workers, loses no request of a client that listens."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from foretell.codecs import messages
from tests.e2e.test_load import descendants, until
from tests.servers import Server, running, start
from tests.stubs import stub

pytestmark = pytest.mark.slow

SERVING, NOT_SERVING = 1, 2
BODY = json.dumps({"features": [35.0, 24, 65.5, 1572.0]})


class Caller(ExitStack):
    """A client that keeps its connection for as long as the server does, and counts."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._link = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        self.callback(self._link.close)
        self.answered = 0
        self.closed = 0

    def ask(self) -> None:
        """One request, which must be answered."""
        self._link.request("POST", "/predict", BODY, {"content-type": "application/json"})
        reply = self._link.getresponse()
        assert json.loads(reply.read())["model_version"] == "1.0.0"
        self.answered += 1
        if reply.getheader("connection") == "close":
            self.closed += 1
            self._link.close()


def calling(server: Server, go_on: Callable[[Caller], bool]) -> list[Caller]:
    """Eight callers at full speed, each for as long as `go_on` says of it."""

    def call(caller: Caller) -> Caller:
        with caller:
            while go_on(caller):
                caller.ask()
        return caller

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(call, [Caller(server) for _ in range(8)]))


def stopped(server: Server, workers: int) -> bool:
    return server.log.count("Stopped worker") >= workers


def test_reloads_of_two_workers_lose_no_request_on_kept_connections(churn: Path) -> None:
    """h2corn alone loses one request for each connection of each worker."""
    with running(churn, "--workers", "2") as server, ThreadPoolExecutor(1) as beside:
        stop = threading.Event()
        callers = beside.submit(calling, server, lambda _: not stop.is_set())
        try:
            for turn in range(1, 3):
                server.process.send_signal(signal.SIGHUP)
                until(partial(stopped, server, 2 * turn))
        finally:
            stop.set()
        counted = callers.result()
    assert sum(caller.closed for caller in counted) >= 8
    assert sum(caller.answered for caller in counted) > 100


@pytest.mark.parametrize("kind", ["h2corn", "uvicorn"])
def test_a_server_that_stops_tells_and_then_loses_nothing(churn: Path, kind: str) -> None:
    with running(churn, "--server", kind, "--drain-grace-s", "1") as server:
        ready = f"{server.url}/health/ready"
        with ThreadPoolExecutor(1) as beside, httpx.Client() as balancer:
            callers = beside.submit(calling, server, lambda caller: not caller.closed)
            assert balancer.get(ready).status_code == 200
            server.process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(ready).status_code == 503)
            assert "stopping" in httpx.get(ready).json()["error"]
            assert httpx.get(f"{server.url}/health/live").status_code == 200
            assert httpx.get(f"{server.url}/v2/models/churn/ready").status_code == 503
            answer = httpx.post(f"{server.url}/predict", content=BODY)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert [caller.closed for caller in callers.result()] == [1] * 8
        assert server.ended() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_is_the_servers(churn: Path, how: signal.Signals) -> None:
    """As systemd, `timeout` and a keyboard send it. Workers that heard it left unannounced."""
    with running(churn, "--workers", "2", "--drain-grace-s", "1") as server:
        workers = descendants(server.process.pid)
        with ThreadPoolExecutor(1) as beside:
            callers = beside.submit(calling, server, lambda caller: not caller.closed)
            httpx.get(f"{server.url}/health/ready")
            for worker in workers:
                os.kill(worker, how)
            if how is signal.SIGINT:  # which has no grace: what the workers do is seen before
                time.sleep(0.5)
                assert not callers.done()
                how = signal.SIGTERM
            server.process.send_signal(how)
            assert [caller.closed for caller in callers.result()] == [1] * 8
        assert server.ended() == 0
    assert "unexpectedly" not in server.log


def test_a_second_signal_is_impatient(churn: Path) -> None:
    with running(churn, "--drain-grace-s", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 30


def test_who_cannot_start_does_not_wait_for_clients(own_churn: Path) -> None:
    """The grace is for clients, and a server that never was ready has none."""
    began = time.monotonic()
    for artifact in own_churn.glob("*/*/*.onnx"):
        artifact.write_bytes(b"spoilt")
    server = start(own_churn, "--drain-grace-s", "60")
    assert server.ended() == 1
    assert time.monotonic() - began < 30


def test_a_watch_is_told_and_does_not_hold_a_server_that_stops(churn: Path) -> None:
    """An open stream alone would hold it for all of --shutdown-timeout-s."""
    request = messages.message("grpc.health.v1.HealthCheckRequest")()
    with (
        running(churn, "--workers", "2") as server,
        grpc.insecure_channel(urlsplit(server.url).netloc) as channel,
    ):
        watch = stub(channel, "grpc.health.v1.Health").Watch(request)
        assert next(watch).status == SERVING
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as ended:
            assert [one.status for one in watch] == [NOT_SERVING]
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.ended() == 0
        assert time.monotonic() - began < 15
