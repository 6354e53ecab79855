"""Redis Streams: nothing is lost when consumers are killed and the server comes back."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from foretell.packing import pack
from tests.redis_server import RedisServer

pytestmark = pytest.mark.slow


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RedisServer]:
    one = RedisServer(tmp_path)
    yield one
    one.stop()


def started(package: Path, daemon: RedisServer) -> subprocess.Popen[bytes]:
    at = f"redis://127.0.0.1:{daemon.port}"
    flags = [
        "--from",
        f"{at}/in?claim_s=0.5&consumer=one",
        "--to",
        f"{at}/out",
        "--dead-letters",
        f"{at}/dead",
    ]
    command = [sys.executable, "-m", "foretell", "stream", str(package), *flags, "--key", "n"]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def told(client: Any, stream: str) -> list[dict[str, Any]]:
    return [json.loads(fields[b"data"]) for _, fields in client.xrange(stream)]


def test_killed_consumers_and_a_server_that_was_away_lose_nothing(
    daemon: RedisServer, tmp_path: Path
) -> None:
    here = Path(__file__).parent
    package = pack(["moody_model:Moody"], name="moody", repository=tmp_path, python_path=here)
    total, draw = 4000, random.Random(3)
    with redis.Redis(port=daemon.port) as client:
        consumer = started(package, daemon)
        for start in range(0, total, 500):
            for n in range(start, start + 500):
                good = b'{"x":%d,"y":2,"n":%d}' % (13 if n % 200 == 5 else 14, n)
                client.xadd("in", {"data": b"garbage" if n % 100 == 7 else good})
            if start in (1000, 2500):
                deadline = time.monotonic() + 30
                while client.xlen("out") < start // 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                time.sleep(draw.random() / 100)
                consumer.kill()
                consumer.communicate()
                consumer = started(package, daemon)
            if start == 2000:
                daemon.stop()
                daemon.start()
        deadline = time.monotonic() + 40
        bad = {n for n in range(total) if n % 200 == 5 or n % 100 == 7}
        while time.monotonic() < deadline and consumer.poll() is None:
            done = {one["n"] for one in told(client, "out")}
            apart = {one["position"] for one in told(client, "dead")}
            if len(done) + len(apart) == total:
                break
            time.sleep(0.05)
        consumer.send_signal(signal.SIGTERM)
        _, err = consumer.communicate(timeout=30)
        assert consumer.returncode == 3, err
        results, dead = told(client, "out"), told(client, "dead")
        ids = {(one["n"], one["id"]) for one in results}
        assert {n for n, _ in ids} == set(range(total)) - bad
        firsts = list(dict.fromkeys(one["n"] for one in results))
        assert firsts == sorted(firsts)
        assert len(ids) == total - len(bad)
        assert len({one["id"] for one in dead}) == len(bad)
        assert client.xpending("in", "foretell")["pending"] == 0
