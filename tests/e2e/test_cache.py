"""Servers with a result cache: what one has answered, another one knows, and no failure shows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from foretell.packing import pack
from tests.redis_server import RedisServer
from tests.servers import running, start

pytestmark = pytest.mark.slow


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    one = RedisServer(tmp_path, "--appendonly", "no", password="secret")
    yield one
    one.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = Path(__file__).parents[1] / "contract"
    pack(["counting:Counting"], name="counting", repository=tmp_path / "models", python_path=here)
    return tmp_path


def set_up(folder: Path, store: str, more: str = "") -> None:
    told = f"[models.counting.cache]\nstore = '{store}'\nttl_s = 600\ntimeout_ms = 100\n{more}"
    (folder / "foretell.toml").write_text(told)


@pytest.mark.parametrize("store", ["redis", "tiered"])
def test_two_servers_of_two_workers_share_one_redis(
    folder: Path, redis_server: RedisServer, store: str
) -> None:
    set_up(folder, store)
    url, two = redis_server.url, ("--workers", "2")
    with (
        running(folder / "models", *two, cwd=folder, FORETELL_CACHE_URL=url) as one,
        running(folder / "models", *two, cwd=folder, FORETELL_CACHE_URL=url) as other,
    ):

        def asked(server: str, x: float) -> tuple[bytes, str]:
            # a connection of its own goes to any of the workers
            reply = httpx.post(f"{server}/predict", json={"x": x})
            return reply.content, reply.headers["cache-status"]

        told = {x: asked(one.url, x) for x in map(float, range(2, 22))}
        assert {status for _, status in told.values()} == {"foretell; fwd=miss"}
        deadline = time.monotonic() + 20
        with redis_server.client() as client:
            while client.dbsize() < len(told) and time.monotonic() < deadline:
                time.sleep(0.01)
        for x, (content, _) in told.items():
            for server in (one.url, other.url):
                assert asked(server, x) == (content, "foretell; hit")
        redis_server.kill()
        for x in map(float, range(30, 60)):
            for server in (one.url, other.url):
                assert httpx.post(f"{server}/predict", json={"x": x}).status_code == 200
        assert "secret" not in one.log + other.log


def test_the_command_shows_and_clears_what_is_kept(folder: Path, redis_server: RedisServer) -> None:
    set_up(folder, "tiered", f"url = '{redis_server.url}'\n")

    def cache(*words: str) -> Any:
        command = [sys.executable, "-m", "foretell", "cache", *words, "--json"]
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert "secret" not in ended.stdout + ended.stderr
        return json.loads(ended.stdout) if ended.stdout else ended.stderr

    with redis_server.client() as client, running(folder / "models", cwd=folder) as server:
        client.set("foretell:{counting2:00}:x", "another model's")
        for x in range(2, 7):
            httpx.post(f"{server.url}/predict", json={"x": x})
        deadline = time.monotonic() + 20
        while client.dbsize() < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        told = cache("stats", "counting", "--server", server.url)
        (kept,) = told["redis"]
        assert (kept["rows"], kept["bytes"] > 5 * 60, len(kept["package"])) == (5, True, 16)
        assert told["server"]["foretell_cache_rows_total 1.0.0 miss"] == 5
        assert told["server"]["foretell_cache_entries 1.0.0"] == 5
        assert cache("clear", "counting") == {"model": "counting", "rows": 5}
        assert cache("stats", "counting") == {"model": "counting", "redis": []}
        assert client.dbsize() == 1
    assert "no cache is set for 'countin'" in str(cache("clear", "countin"))
    redis_server.kill()
    assert cache("stats", "counting")["code"] == "store_failed"
    set_up(folder, "memory")
    for what in ("stats", "clear"):
        assert "in the memory of each worker" in str(cache(what, "counting"))


def test_a_cache_in_redis_without_a_url_is_refused(folder: Path) -> None:
    set_up(folder, "redis")
    server = start(folder / "models", cwd=folder)
    assert server.ended() != 0
    assert "the cache of counting is in Redis, and needs its url, or cache_url" in server.log


def test_a_cache_of_a_model_that_is_not_served_is_refused(folder: Path) -> None:
    (folder / "foretell.toml").write_text("[models.countin.cache]\nstore = 'memory'\n")
    server = start(folder / "models", cwd=folder)
    assert server.ended() != 0
    assert "no model of that name is served; did you mean 'counting'?" in server.log
