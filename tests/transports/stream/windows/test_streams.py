"""Streams whose model sees the recent past: as it was learnt, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import foretell
from foretell.errors import BadSettings
from foretell.packing import pack
from tests.redis_server import free_port
from tests.transports.stream.consumers import Consumer, status_becomes, stopped
from tests.transports.stream.daemons import Daemon
from tests.transports.stream.daemons_kafka import Kafka
from tests.transports.stream.daemons_redis import Redis
from tests.transports.stream.test_brokers import documents, wait_for

WINDOWS = {
    "key": "machine",
    "time": "at",
    "ttl_s": 3600,
    "features": [{"name": "y", "field": "x", "statistic": "mean", "events": 5}],
}
TOTAL, MACHINES = 2000, 7


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rolling-models")
    here = Path(__file__).parent.parent
    return pack(["moody_model:Moody"], repository=folder, python_path=here, windows=WINDOWS)


def rows() -> list[dict[str, Any]]:
    draw = random.Random(5)
    return [
        {"n": n, "machine": f"m{n % MACHINES}", "at": n, "x": round(draw.random() * 10, 3)}
        for n in range(TOTAL)
    ]


def test_lines_are_filled_in_as_the_training_table_was(package: Path, tmp_path: Path) -> None:
    told = [*rows()[:40], {"machine": "m1", "at": 50, "x": 1.0, "y": 7.5}]
    bad = [{"at": 1, "x": 1}, {"machine": "m1", "at": "noon", "x": 1}, {"machine": "m1", "at": 1}]
    source, out, dead = (tmp_path / name for name in ("in", "out", "dead"))
    source.write_text("\n".join(map(json.dumps, [*told[:20], *bad, *told[20:]])))
    report = foretell.stream(
        package, f"file:{source}", f"file:{out}", dead_letters=f"file:{dead}", emit="merged"
    )
    assert (report.published, report.dead_lettered) == (41, 3)
    expected = foretell.rolling(told[:40], WINDOWS)["y"]
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["y"] for one in results] == [*expected, 7.5], "what is there stays"
    letters = [json.loads(line) for line in dead.read_text().splitlines()]
    assert [one["field"] for one in letters] == ["machine", "at", "x"]


def test_there_must_be_something_to_keep(package: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="a file begins anew"):
        foretell.stream(package, "file:x", state=f"file:{tmp_path / 's'}")
    bare = pack(
        ["moody_model:Moody"], repository=tmp_path, python_path=Path(__file__).parent.parent
    )
    with pytest.raises(BadSettings, match="moody_model has no windows"):
        foretell.stream(bare, "redis://127.0.0.1:1/in", "-", state=f"file:{tmp_path / 's'}")


@pytest.fixture(params=[Redis, Kafka], ids=["redis", "kafka"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    one: Daemon = request.param(tmp_path)
    yield one
    one.stop()


@pytest.mark.slow
def test_killed_consumers_forget_nothing_and_count_nothing_twice(
    daemon: Daemon, package: Path, tmp_path: Path
) -> None:
    daemon.prepare("in", "out", "dead")
    flags = ["--from", daemon.source("in"), "--to", daemon.sink("out")]
    flags += ["--dead-letters", daemon.sink("dead"), "--state", f"file:{tmp_path / 'state'}"]
    flags += ["--emit", "merged"]
    told, draw, step = rows(), random.Random(1), TOTAL // 10
    with contextlib.ExitStack() as consumers:
        consumer = consumers.enter_context(Consumer(package, *flags))
        for start in range(0, TOTAL, step):
            part = told[start : start + step]
            daemon.put("in", ((row["machine"].encode(), json.dumps(row).encode()) for row in part))
            if start % (3 * step) == step:
                wait_for(daemon, start, consumer, 40)
                time.sleep(draw.random() / 50)
                consumer.kill()
                consumer.wait()
                consumer = consumers.enter_context(Consumer(package, *flags))
        wait_for(daemon, TOTAL, consumer, 60)
        stopped(consumer)
    assert not documents(daemon, "dead")
    results = documents(daemon, "out")
    expected = foretell.rolling(told, WINDOWS)["y"]
    wrong = [one["n"] for one in results if one["y"] != expected[one["n"]]]
    assert not wrong
    assert {one["n"] for one in results} == set(range(TOTAL))


@pytest.mark.slow
def test_members_of_a_group_take_over_one_anothers_past(tmp_path: Path, package: Path) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "redis").mkdir()
    daemon, redis = Kafka(tmp_path / "kafka"), Redis(tmp_path / "redis")
    try:
        daemon.prepare("in", "out", "dead")
        told = rows()
        with contextlib.ExitStack() as group:
            consumers = []
            for name in ("two", "three"):
                port = free_port()
                flags = ["--from", daemon.source("in", name), "--to", daemon.sink("out")]
                flags += ["--dead-letters", daemon.sink("dead"), "--emit", "merged"]
                flags += ["--state", f"redis://127.0.0.1:{redis.port}/foretell"]
                flags += ["--metrics-bind", f"127.0.0.1:{port}"]
                consumers.append(group.enter_context(Consumer(package, *flags)))
                status_becomes(port, 200)
            for half in (told[: TOTAL // 2], told[TOTAL // 2 :]):
                daemon.put(
                    "in", ((row["machine"].encode(), json.dumps(row).encode()) for row in half)
                )
                wait_for(daemon, half[-1]["n"] + 1, consumers[-1], 40)
                stopped(consumers.pop(0))
        expected = foretell.rolling(told, WINDOWS)["y"]
        results = documents(daemon, "out")
        assert {one["n"] for one in results} == set(range(TOTAL))
        assert all(one["y"] == expected[one["n"]] for one in results)
    finally:
        daemon.stop()
        redis.stop()
