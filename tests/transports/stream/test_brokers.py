"""The contract of all brokers: killed consumers and restarted brokers lose nothing."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foretell.packing import pack
from tests.redis_server import free_port
from tests.transports.stream.consumers import Consumer, status_becomes, stopped
from tests.transports.stream.daemons import Daemon, Put
from tests.transports.stream.daemons_kafka import Kafka
from tests.transports.stream.daemons_mqtt import Mosquitto
from tests.transports.stream.daemons_nats import Nats
from tests.transports.stream.daemons_rabbit import Rabbit
from tests.transports.stream.daemons_redis import Redis

pytestmark = pytest.mark.slow

BROKERS: list[type[Daemon]] = [Kafka, Mosquitto, Nats, Rabbit, Redis]
KEYS = 20
TOTAL = int(os.environ.get("STREAM_MESSAGES", "3000"))
KILLS = int(os.environ.get("STREAM_KILLS", "3"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    here = Path(__file__).parent
    return pack(["moody_model:Moody"], name="moody", repository=folder, python_path=here)


@pytest.fixture(params=BROKERS, ids=lambda kind: kind.__name__.lower())
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    one: Daemon = request.param(tmp_path)
    yield one
    one.stop()


def started(package: Path, daemon: Daemon, consumer: str = "one", *more: str) -> Consumer:
    flags = ["--from", daemon.source("in", consumer), "--to", daemon.sink("out")]
    flags += ["--dead-letters", daemon.sink("dead"), "--key", "n"]
    return Consumer(package, *flags, *more)


CODES = {True: "invalid_input", False: "model_failed"}  # of garbage, and of what the model fails on


def is_garbage(n: int) -> bool:
    return n % 100 == 7


def is_poison(n: int) -> bool:
    return n % 200 == 5


def message(n: int) -> Put:
    value = b'{"x":%d,"y":%d,"n":%d}' % (13 if is_poison(n) else 14, n, n)
    return b"key-%d" % (n % KEYS), b"garbage %d" % n if is_garbage(n) else value


def number_of(letter: dict[str, Any]) -> int:
    value = letter["value"]
    return int(value.split()[1]) if value.startswith("garbage") else int(json.loads(value)["n"])


def documents(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    return [json.loads(value) for value in daemon.told(name)]


def wait_for(daemon: Daemon, wanted: int, consumer: Consumer, within: float) -> None:
    """Until there are results and dead letters of so many messages."""
    deadline = time.monotonic() + within
    while True:
        done = {int(one["n"]) for one in documents(daemon, "out")}
        done |= {number_of(one) for one in documents(daemon, "dead")}
        if len(done) >= wanted:
            return
        assert consumer.poll() is None, consumer.communicate()[1].decode()
        if time.monotonic() > deadline:
            consumer.kill()
            pytest.fail(f"{len(done)} of {wanted}; {consumer.communicate()[1].decode()}")
        time.sleep(0.1)


def test_nothing_is_lost_when_consumers_are_killed_and_the_broker_restarts(
    daemon: Daemon, package: Path
) -> None:
    daemon.prepare("in", "out", "dead")
    draw, step = random.Random(3), max(TOTAL // 20, 1)
    starts = range(0, TOTAL, step)
    kills, restarts = {*draw.sample(starts[2:-1], KILLS)}, {starts[len(starts) // 3], starts[-2]}
    with contextlib.ExitStack() as consumers:
        consumer = consumers.enter_context(started(package, daemon))
        for start in starts:
            daemon.put("in", map(message, range(start, min(start + step, TOTAL))))
            if start in kills:
                wait_for(daemon, start // 2, consumer, 40)
                time.sleep(draw.random() / 50)
                consumer.kill()
                consumer.wait()
                consumer = consumers.enter_context(started(package, daemon))
            if start in restarts:
                daemon.stop()
                daemon.start()
        wait_for(daemon, TOTAL, consumer, 60 + TOTAL / 500)
        stopped(consumer)
    results, dead = documents(daemon, "out"), documents(daemon, "dead")
    bad = {n for n in range(TOTAL) if is_garbage(n) or is_poison(n)}
    assert {one["n"] for one in results} == set(range(TOTAL)) - bad
    assert {number_of(one) for one in dead} == bad
    codes = {number_of(one): (one["code"], one["error"]) for one in dead}
    wrong = {n: codes[n] for n in bad if codes[n][0] != CODES[is_garbage(n)]}
    assert not wrong
    assert all(one["key"] == f"key-{number_of(one) % KEYS}" for one in dead)
    ids = {(one["n"], one["id"]) for one in results} | {(number_of(x), x["id"]) for x in dead}
    assert len(ids) == TOTAL, "whoever comes twice has one id"
    assert len({own for _, own in ids}) == TOTAL, "and no two share one"
    assert all(one["prediction"] == (one["n"] > 14) for one in results)
    by_key = collections.defaultdict(list)
    for n in dict.fromkeys(one["n"] for one in results):
        by_key[n % KEYS].append(n)
    assert all(told == sorted(told) for told in by_key.values())


def test_a_message_that_ends_the_process_becomes_a_dead_letter(
    daemon: Daemon, package: Path
) -> None:
    daemon.prepare("in", "out", "dead")
    told = [b'{"x":%d,"y":2,"n":%d}' % (-666 if n == 40 else 1, n) for n in range(100)]
    daemon.put("in", ((b"k", value) for value in told))
    with started(package, daemon) as consumer:
        assert consumer.wait(30) == 9
    with started(package, daemon) as consumer:
        wait_for(daemon, 100, consumer, 40)
        err = stopped(consumer)
    assert "attempt 3" in err
    # on a slow machine it takes longer than the broker waits here: then it comes twice
    letters = documents(daemon, "dead")
    assert {(one["code"], one["attempts"], number_of(one)) for one in letters} == {
        ("poison", 3, 40)
    }
    assert len({one["id"] for one in letters}) == 1
    firsts = list(dict.fromkeys(one["n"] for one in documents(daemon, "out")))
    assert firsts == [n for n in range(100) if n != 40]


def test_one_of_two_consumers_leaves_and_nothing_is_lost(daemon: Daemon, package: Path) -> None:
    daemon.prepare("in", "out", "dead")
    ports = [free_port(), free_port()]
    with (
        started(package, daemon, "two", "--metrics-bind", f"127.0.0.1:{ports[0]}") as first,
        started(package, daemon, "three", "--metrics-bind", f"127.0.0.1:{ports[1]}") as second,
    ):
        for port in ports:
            status_becomes(port, 200)
        daemon.put("in", map(message, range(1000)))
        wait_for(daemon, 500, first, 40)
        stopped(first)
        daemon.put("in", map(message, range(1000, 2000)))
        wait_for(daemon, 2000, second, 60)
        stopped(second)
