"""What a real server counts is what was asked of it, whatever became of its workers meanwhile."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_grpc import INFERENCE, of
from tests.e2e.test_load import Place, ask, descendants, place, serving, until
from tests.servers import Server, start
from tests.stubs import stub

__all__ = ["place"]  # the fixture
pytestmark = pytest.mark.slow

GATED = {"model": "gated", "model_version": "1.0.0"}
FAILING = -3.0
ROW = {"features": [35.0, 24, 65.5, 1572.0]}


class Scraper:
    """Reads /metrics, and counts how often."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/metrics"
        self.scrapes = 0

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        self.scrapes += 1
        reply = httpx.get(self.url, timeout=30)
        assert reply.status_code == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(reply.text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples()[name, frozenset(labels.items())]


class Known:
    """Asks what comes to a known end, through REST and gRPC, and keeps count of it."""

    def __init__(self, server: Server, place: Place, scraped: Scraper) -> None:
        self.server, self.place, self.scraped = server, place, scraped
        self.calls: Counter[str] = Counter()
        self.replies: Counter[tuple[str, str]] = Counter()
        self.numbers = iter(range(1000, 10_000))

    def number(self) -> float:
        return float(next(self.numbers))

    def rest(self, ends_with: int, status: str | None, *values: float, **headers: str) -> None:
        assert ask(self.server, *values, **headers).status_code == ends_with
        self.ended(("rest", str(ends_with)), status)

    def ended(self, reply: tuple[str, str] | None, status: str | None) -> None:
        if reply is not None:
            self.replies[reply] += 1
        if status is not None:
            self.calls[status] += 1

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A new connection, so that one of the workers is chosen anew."""
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(urlsplit(self.server.url).netloc, own) as channel:
            yield stub(channel, INFERENCE)

    def grpc(self, code: str, status: str | None, request: Any) -> None:
        with self.channel() as model:
            assert model.ModelInfer.future(request, timeout=60).code().name == code
        self.ended(("grpc", code), status)

    def ask_plainly(self) -> None:
        """What ends at once: right, wrong, unknown and failing requests."""
        for _ in range(5):
            self.rest(200, "success", self.number())
            self.grpc("OK", "success", of(self.number()))
        self.rest(200, "success", *(self.number() for _ in range(3)))
        self.rest(500, "error", FAILING)
        self.grpc("INTERNAL", "error", of(FAILING))
        bad = httpx.post(f"{self.server.url}/predict", content=b"no JSON")
        assert bad.status_code == 400
        self.ended(("rest", "400"), None)
        wrong = of(1.0)
        wrong.inputs[0].name = "y"
        self.grpc("INVALID_ARGUMENT", None, wrong)
        for path in ("/models/nobody/predict", "/nowhere"):
            assert httpx.post(f"{self.server.url}{path}", json={}).status_code == 404
            self.ended(("rest", "404"), None)
        self.grpc("NOT_FOUND", None, of(1.0, model="nobody"))

    def ask_while_it_is_busy(self) -> None:
        """One call runs and one waits in a worker; the others there are shed, late, or leave."""
        self.place.gate.unlink()
        with self.channel() as model, ThreadPoolExecutor(2) as pool:
            first = self.number()
            runs = pool.submit(model.ModelInfer, of(first))
            self.place.until_seen(first)
            gone = model.ModelInfer.future(of(self.number()))
            until(lambda: self.scraped("foretell_queue_rows", **GATED) == 1)
            assert self.scraped("foretell_rows_in_flight", **GATED) == 1
            assert gone.cancel()
            until(lambda: self.scraped("foretell_queue_rows", **GATED) == 0)
            self.ended(("grpc", "CANCELLED"), "cancelled")
            waits = pool.submit(model.ModelInfer, of(*(self.number() for _ in range(4))))
            until(lambda: self.scraped("foretell_queue_rows", **GATED) == 4)
            with pytest.raises(grpc.RpcError) as shed:
                model.ModelInfer(of(self.number()))
            assert shed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            self.ended(("grpc", "RESOURCE_EXHAUSTED"), "overloaded")
            self.place.gate.touch()
            for answered in (runs, waits):
                answered.result()
                self.ended(("grpc", "OK"), "success")

    def ask_too_late(self) -> None:
        """Deadlines that pass while the model works, or waits, in whichever worker it is."""
        self.place.gate.unlink()
        self.rest(504, "deadline_exceeded", self.number(), **{"X-Request-Timeout-Ms": "50"})
        # grpcio's own clients end a call themselves when it is late.
        message = of(self.number()).SerializeToString()
        told = {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "50m"}
        with httpx.Client(http1=False, http2=True, timeout=60) as client:
            url = f"{self.server.url}/{INFERENCE}/ModelInfer"
            framed = b"\0" + len(message).to_bytes(4, "big") + message
            late = client.post(url, content=framed, headers=told)
        assert late.headers["grpc-status"] == "4"
        self.ended(("grpc", "DEADLINE_EXCEEDED"), "deadline_exceeded")
        self.place.gate.touch()


def test_counts_are_exact_across_a_killed_worker_and_a_reload(place: Place) -> None:
    arguments = ("--workers", "2", "--executor", "thread", "--max-queue-rows", "4")
    with serving(place, *arguments) as server:
        place.gate.touch()
        scraped = Scraper(server.url)
        known = Known(server, place, scraped)

        def all_of_it() -> None:
            known.ask_plainly()
            known.ask_while_it_is_busy()
            known.ask_too_late()
            until(lambda: scraped("foretell_rows_in_flight", **GATED) == 0)

        until(lambda: scraped("foretell_workers") == 2)
        all_of_it()
        os.kill(descendants(server.process.pid)[0], signal.SIGKILL)
        until(lambda: scraped("foretell_worker_restarts_total", reason="died") == 1)
        until(lambda: scraped("foretell_workers") == 2)
        all_of_it()
        server.process.send_signal(signal.SIGHUP)
        until(lambda: scraped("foretell_worker_restarts_total", reason="reload") == 2)
        all_of_it()

        # Who was just answered may see itself counted, and the scrape is not yet.
        known.replies["rest", "200"] += scraped.scrapes + 1  # the readiness of the fixture
        samples = scraped.samples()
    labelled = {
        (name, tuple(sorted(labels))): value for (name, labels), value in samples.items() if value
    }

    def of_name(name: str, *keys: str) -> dict[tuple[str, ...], float]:
        return {
            tuple(dict(labels)[key] for key in keys): value
            for (found, labels), value in labelled.items()
            if found == name
        }

    statuses = of_name("prediction_total", "model", "model_version", "status")
    assert statuses == {("gated", "1.0.0", s): n for s, n in known.calls.items()}
    assert of_name("foretell_requests_total", "door", "code") == dict(known.replies)
    answered = known.calls["success"] + known.calls["error"]
    assert of_name("prediction_latency_seconds_count") == {(): answered}
    assert of_name("foretell_worker_restarts_total", "reason") == {("died",): 1, ("reload",): 2}
    assert of_name("foretell_model_state", "state") == {("ready",): 1}
    assert "nobody" not in str(labelled)
    assert of_name("foretell_queue_rows") == of_name("foretell_rows_in_flight") == {}
    assert samples["foretell_workers", frozenset()] == 2


@pytest.mark.parametrize("kind", ["h2corn", "uvicorn"])
def test_metrics_may_have_an_address_of_their_own(churn: Path, kind: str) -> None:
    with ExitStack() as probes:
        ports = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        main, apart = (f"127.0.0.1:{one.getsockname()[1]}" for one in ports)
    server = start(churn, "--server", kind, "--bind", main, "--metrics-bind", apart)
    try:
        until(lambda: answers(f"http://{main}/health/ready"))
        assert httpx.post(f"http://{main}/predict", json=ROW).status_code == 200
        assert Scraper(f"http://{apart}")("foretell_requests_total", door="rest", code="200") == 2
        assert httpx.get(f"http://{main}/metrics").status_code == 404
        for path in ("/predict", "/health", "/docs"):
            beside = httpx.post(f"http://{apart}{path}", json=ROW)
            assert (beside.status_code, beside.json()["code"]) == (404, "not_found")
        # What comes to that address is nobody's request for a prediction.
        assert Scraper(f"http://{apart}")("foretell_requests_total", door="rest", code="404") == 1
    finally:
        assert server.stop() == 0


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
