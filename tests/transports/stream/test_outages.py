"""Outages that last: longer than a group waits for a member, and what a sink's costs the source."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from foretell.transports.stream.brokers import sink_of
from foretell.transports.stream.message import Record
from tests.transports.stream.consumers import Consumer, stopped
from tests.transports.stream.daemons import Daemon
from tests.transports.stream.daemons_kafka import Kafka
from tests.transports.stream.daemons_rabbit import Rabbit
from tests.transports.stream.daemons_redis import Redis
from tests.transports.stream.test_brokers import documents, package

__all__ = ["package"]  # a fixture
pytestmark = pytest.mark.slow


def wait_until(daemon: Daemon, wanted: int, consumer: Consumer) -> list[int]:
    deadline = time.monotonic() + 60
    while len(told := [one["n"] for one in documents(daemon, "out")]) < wanted:
        assert consumer.poll() is None, consumer.communicate()[1].decode()
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    return told


@pytest.mark.parametrize("member", ["one", "two"])  # with a name in the group, and without
def test_a_sink_that_is_away_for_longer_than_the_group_waits_loses_nothing(
    tmp_path: Path, package: Path, member: str
) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "redis").mkdir()
    source, sink = Kafka(tmp_path / "kafka"), Redis(tmp_path / "redis")
    source.prepare("in")
    url = f"{source.source('in', member)}&max.poll.interval.ms=6000"
    flags = ["--from", url, "--to", sink.sink("out"), "--dead-letters", sink.sink("dead")]
    try:
        with Consumer(package, *flags, "--key", "n") as consumer:
            source.put("in", ((b"k", b'{"x":1,"y":2,"n":%d}' % n) for n in range(10)))
            wait_until(sink, 10, consumer)
            sink.stop()
            source.put("in", ((b"k", b'{"x":1,"y":2,"n":%d}' % n) for n in range(10, 20)))
            time.sleep(9)  # the outage itself: the group gives up on its member after 6 s
            sink.start()
            source.put("in", ((b"k", b'{"x":1,"y":2,"n":%d}' % n) for n in range(20, 30)))
            told = wait_until(sink, 30, consumer)
            assert [*dict.fromkeys(told)] == [*range(30)]
            err = stopped(consumer)
            assert err.count("Redis at") == 2, "away and back, a line each"
    finally:
        source.stop()
        sink.stop()


def test_results_for_a_queue_that_was_deleted_are_not_taken_for_published(tmp_path: Path) -> None:
    """RabbitMQ confirms what it could not deliver, after it gave it back."""
    daemon = Rabbit(tmp_path)

    async def published() -> None:
        import aio_pika

        sink = sink_of(daemon.sink("out"), "--to")
        await sink.publish([Record("1", b"{}")])
        async with await aio_pika.connect(port=daemon.port) as connection:
            await (await connection.channel()).queue_delete("out")
        await sink.publish([Record(f"{n}", b"%d" % n) for n in range(3)])
        await sink.close()

    try:
        daemon.prepare("out")
        asyncio.run(asyncio.wait_for(published(), 30))
        assert daemon.told("out") == [b"0", b"1", b"2"]
    finally:
        daemon.stop()


def test_more_records_than_a_producer_has_room_for_are_published(tmp_path: Path) -> None:
    """A few Arrow messages make so many rows."""
    daemon = Kafka(tmp_path)
    records = [Record(f"{n}", b"%d" % n, b"k") for n in range(120_000)]

    async def published() -> None:
        sink = sink_of(daemon.sink("out"), "--to")
        await sink.publish(records)
        await sink.close()

    try:
        daemon.prepare("out")
        asyncio.run(asyncio.wait_for(published(), 60))
        assert daemon.told("out") == [one.value for one in records]
    finally:
        daemon.stop()
