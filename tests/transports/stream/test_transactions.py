"""Kafka's transactions where members, producers and settings are not what they should be."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import foretell
from foretell.errors import BadSettings
from foretell.transports.stream.brokers import kafka_transactions, sink_of, transacted_of
from foretell.transports.stream.message import Record
from tests.transports.stream.daemons_kafka import Transactions
from tests.transports.stream.test_brokers import (
    assert_none_twice,
    documents,
    package,
    started,
    stopped,
    wait_for,
)

__all__ = ["package"]  # a fixture
pytestmark = pytest.mark.slow


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Transactions]:
    one = Transactions(tmp_path)
    one.prepare("in", "out", "dead")
    yield one
    one.stop()


def test_who_was_replaced_while_it_slept_publishes_nothing_more(
    daemon: Transactions, package: Path
) -> None:
    """Stopped with messages in its hands; one of its name does them; then it wakes up."""
    told = [b'{"x":1,"y":2,"n":%d}' % n for n in range(20_000)]
    first = started(package, daemon)
    second = None
    try:
        daemon.put("in", ((b"k", value) for value in told[:100]))
        wait_for(daemon, 100, first, 40)
        daemon.put("in", ((b"k", value) for value in told[100:]))
        first.send_signal(signal.SIGSTOP)
        second = started(package, daemon)
        wait_for(daemon, 20_000, second, 60)
        first.send_signal(signal.SIGCONT)
        daemon.put("in", [(b"k", b'{"x":1,"y":2,"n":20000}')])
        wait_for(daemon, 20_001, second, 40)
        stopped(second)
        first.send_signal(signal.SIGTERM)
        _, err = first.communicate(timeout=30)
    finally:
        for one in (first, second):
            if one is not None:
                one.kill()
    assert first.returncode == 0 or err.decode().splitlines()[-1].startswith("error: "), err
    assert_none_twice(daemon, 20_001)
    assert [one["n"] for one in documents(daemon, "out")] == [*range(20_001)]


def test_a_call_of_librdkafka_that_hangs_is_left_to_itself(
    daemon: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its issues 5456 and 5511: a broker that is gone is waited for without end."""
    monkeypatch.setattr(kafka_transactions, "_HANGS_S", 0.5)
    daemon.put("in", [(b"k", b"%d" % n) for n in range(5)])
    source, sink, _ = transacted_of(daemon.source("in"), daemon.sink("out"), "stderr")
    tried, late = kafka_transactions.Transactions._tried, list[str]()

    def hanging(self: Any, producer: Any, *given: Any) -> None:
        monkeypatch.setattr(kafka_transactions.Transactions, "_tried", tried)
        producer.begin_transaction()
        self._client.produced(producer, "out", [Record("1", b"half", b"k")])
        time.sleep(2)
        try:
            producer.commit_transaction(5)
        except self._client.kafka.KafkaException as error:
            late.append(error.args[0].name())

    monkeypatch.setattr(kafka_transactions.Transactions, "_tried", hanging)

    async def passed() -> None:
        messages = await source.take(10)
        await sink.publish([Record(one.position, one.value, b"k") for one in messages])
        await source.acknowledge(messages)
        await source.close()

    asyncio.run(asyncio.wait_for(passed(), 30))
    deadline = time.monotonic() + 20
    while not late and time.monotonic() < deadline:
        time.sleep(0.05)
    assert late == ["_FENCED"]
    assert daemon.told("out") == [b"%d" % n for n in range(5)]


def test_more_records_than_a_producer_has_room_for_are_published(daemon: Transactions) -> None:
    """A few Arrow messages make so many rows."""
    records = [Record(f"{n}", b"%d" % n, b"k") for n in range(120_000)]

    async def published() -> None:
        sink = sink_of(daemon.sink("out"), "--to")
        await sink.publish(records)
        await sink.close()

    asyncio.run(asyncio.wait_for(published(), 60))
    assert daemon.told("out") == [one.value for one in records]


HERE, THERE = "kafka://127.0.0.1:9092", "kafka://127.0.0.1:9093"


@pytest.mark.parametrize(
    ("source", "sink", "dead", "said"),
    [
        ("redis://127.0.0.1/in", f"{HERE}/out", "stderr", "from kafka:// to kafka://"),
        (f"{HERE}/in", "-", "stderr", "from kafka:// to kafka://"),
        (f"{HERE}/in", f"{THERE}/out", "stderr", "the same server in --from and --to"),
        (f"{HERE}/in", f"{HERE}/out", f"{HERE}/dead?linger.ms=5", "write --dead-letters as --to"),
    ],
)
def test_where_no_transaction_can_be_is_said_before_anything_is_read(
    package: Path, source: str, sink: str, dead: str, said: str
) -> None:
    with pytest.raises(BadSettings, match=said):
        foretell.stream(package, source, sink, dead_letters=dead, exactly_once=True)
