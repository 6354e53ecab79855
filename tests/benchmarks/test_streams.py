"""The benchmark of streams sees what is lost, doubled or late, and judges it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.soak import Soaked
from benchmarks.streams import NAIVE, OURS, Drained, judge

from benchmarks import stream_feed
from tests.transports.stream.daemons_kafka import Kafka

FINE = Soaked(200, 1000, 100, 1, 9, 0, 0, 1.0, 50.0, 60.0, 1.0, before=100, after=105)


def words(ours: float, naive: float, soaked: Soaked) -> list[str]:
    told = {name: Drained(name, rate, 20, 0) for name, rate in ((OURS, ours), (NAIVE, naive))}
    return [verdict.word for verdict in judge(told, soaked)]


def test_each_budget_of_a_stream_is_held_up_to_its_limit() -> None:
    assert words(20_000, 4_000, FINE) == ["held"] * 6
    bad = replace(FINE, p99=50.1, lost=1, doubled=1, after=105.1)
    assert words(19_999, 4_000, bad) == ["missed"] * 6


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Kafka]:
    daemon = Kafka(tmp_path)
    daemon.prepare("soak", "soaked")
    yield daemon
    daemon.stop()


def relay(server: str, count: int, lost: int, doubled: int) -> None:
    """A stream that loses one message and does another one twice."""
    from confluent_kafka import Consumer, Producer

    told = {"group.id": "relay", "auto.offset.reset": "earliest"}
    consumer, producer = (
        Consumer({"bootstrap.servers": server, **told}),
        Producer({"bootstrap.servers": server}),
    )
    consumer.subscribe(["soak"])
    came = 0
    while came < count:
        for one in consumer.consume(100, 0.1):
            came += 1
            number = int((one.value() or b"").rpartition(b":")[2].rstrip(b"}"))
            for _ in range({lost: 0, doubled: 2}.get(number, 1)):
                producer.produce("soaked", b'{"id":"x","n":%d,"prediction":1}' % number)
        producer.flush(5)
    consumer.close()


@pytest.mark.slow
def test_the_feed_counts_what_a_stream_loses_and_doubles(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b'{"x":1}\n{"x":2}')
    monkeypatch.setenv("BODIES", str(bodies))
    monkeypatch.setattr(stream_feed, "LAST_RESULTS_S", 5.0)
    server = f"127.0.0.1:{kafka.port}"
    stream = threading.Thread(target=relay, args=(server, 200, 7, 8))
    stream.start()
    came = stream_feed.feed(server, rate=200, warm_up_s=0.5, seconds=0.5)
    stream.join(20)
    assert (came["sent"], came["lost"], came["doubled"]) == (200, 1, 1)
    assert 0 < came["p50_ms"] <= came["p99_ms"] <= came["p100_ms"]
