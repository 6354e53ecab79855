"""How often a client may ask: exactly so often, in bounded memory, over REST and gRPC."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from foretell.codecs import messages
from foretell.errors import Overloaded, Unauthenticated
from foretell.transports.asgi.access.gate import Gate
from foretell.transports.asgi.access.grants import Grant
from foretell.transports.asgi.access.rates import Rates
from tests.servers import running

ROW = {"age": 35, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}
PREDICT = "/prediction.PredictionService/Predict"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def scope(host: str | None, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"client": None if host is None else (host, 1), "headers": headers}


def passed(count: Callable[[], None], times: int) -> int:
    """How many of so many requests at once pass."""
    done = 0
    for _ in range(times):
        try:
            count()
        except Overloaded:
            continue
        done += 1
    return done


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(10, 5, clock)

    def count() -> None:
        rates.count_stranger(scope("10.0.0.1"))

    assert passed(count, 20) == 5
    total = 0
    for _ in range(1000):
        clock.now += 0.01
        total += passed(count, 3)
    assert total in (99, 100, 101)
    clock.now += 100
    assert passed(count, 20) == 5


def test_who_waits_as_long_as_told_passes() -> None:
    clock = Clock()
    rates = Rates(3, 1, clock)
    rates.count_stranger(scope("10.0.0.1"))
    with pytest.raises(Overloaded) as caught:
        rates.count_stranger(scope("10.0.0.1"))
    assert caught.value.retry_after_s == pytest.approx(1 / 3)
    clock.now += caught.value.retry_after_s
    rates.count_stranger(scope("10.0.0.1"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        (None, "", True),
        ("odd:name", "odd:other", False),
    ],
)
def test_clients_are_told_apart_by_address_or_network(
    one: str | None, other: str | None, same: bool
) -> None:
    rates = Rates(1, 1, Clock())
    rates.count_stranger(scope(one))
    assert passed(lambda: rates.count_stranger(scope(other)), 1) == (0 if same else 1)


def test_callers_are_counted_by_key_wherever_they_are() -> None:
    def grant_of(key: bytes) -> Grant:
        if key == b"wrong":
            raise Unauthenticated("no")
        return Grant(key.decode())

    gate = Gate(grant_of, None, Rates(1, 2, Clock()))

    def ask(key: bytes, host: str) -> None:
        gate.admit("/models", scope(host, (b"x-api-key", key)))

    assert passed(lambda: ask(b"one", "10.0.0.1"), 5) == 2
    assert passed(lambda: ask(b"one", "10.0.0.2"), 5) == 0
    assert passed(lambda: ask(b"two", "10.0.0.1"), 5) == 2
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            ask(b"wrong", "10.0.0.3")
    with pytest.raises(Overloaded):
        ask(b"wrong", "10.0.0.3")
    for _ in range(10):
        gate.admit("/health/ready", scope("10.0.0.3"))


@pytest.mark.slow
def test_a_million_addresses_take_bounded_memory_and_touch_no_key() -> None:
    rates = Rates(1, 1, Clock())
    known = Grant("known")
    rates.count(known)
    for n in range(1_000_000):
        if n == 900_000:  # tracing is slow, and all that is kept at the end is younger
            tracemalloc.start()
        rates.count_stranger(scope(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 16 * 2**20
    assert len(rates._addresses) <= 65_536
    with pytest.raises(Overloaded):
        rates.count(known)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["h2corn", "uvicorn"])
def test_a_server_refuses_what_is_too_much_over_rest_and_grpc(repository: Path, kind: str) -> None:
    flags = ["--default-model", "churn", "--rate-limit", "0.01/s", "--rate-burst", "3"]
    flags += ["--server", kind]
    request: Any = messages.message("prediction.PredictRequest")
    with running(repository, *flags) as server:
        with httpx.Client(base_url=server.url) as client:
            told = [client.post("/predict", json=ROW) for _ in range(4)]
            assert [reply.status_code for reply in told] == [200, 200, 200, 429]
            assert 1 <= int(told[3].headers["retry-after"]) <= 100
            assert told[3].json()["code"] == "overloaded"
            assert client.get("/health/ready").status_code == 200
            assert client.get("/metrics").status_code == 200
        if kind == "uvicorn":
            return  # it has no gRPC
        with grpc.insecure_channel(urlsplit(server.url).netloc) as channel:
            call: Any = channel.unary_unary(PREDICT)
            with pytest.raises(grpc.RpcError) as caught:
                call(request().SerializeToString(), timeout=30)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(error.trailing_metadata())["retry-after"]) >= 1
