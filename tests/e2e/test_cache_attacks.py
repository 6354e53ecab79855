"""The result cache under attack, in real servers: models that go and come, killed servers."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from foretell.engine.stores.framing import unframed
from foretell.packing import pack
from tests.redis_server import RedisServer
from tests.servers import running, start

pytestmark = pytest.mark.slow
HIT = "foretell; hit"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    one = RedisServer(tmp_path, "--appendonly", "no")
    yield one
    one.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    packed(tmp_path, "First", "1.0.0")
    return tmp_path


def packed(folder: Path, what: str, version: str) -> None:
    here = Path(__file__).parent
    pack(
        [f"telling:{what}"],
        name="m",
        version=version,
        repository=folder / "models",
        python_path=here,
    )


def set_up(folder: Path, store: str, more: str = "ttl_s = 600\n") -> None:
    told = f"[models.m.cache]\nstore = '{store}'\ntimeout_ms = 200\n{more}"
    (folder / "foretell.toml").write_text(told)


def asked(url: str, x: float, path: str = "/predict", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url + path, json={"x": x}, headers=sent, timeout=30)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_answers_what_redis_lost_and_goes_on_without_it(
    folder: Path, redis_server: RedisServer
) -> None:
    set_up(folder, "tiered")
    with running(folder / "models", cwd=folder, FORETELL_CACHE_URL=redis_server.url) as one:
        first = asked(one.url, 2.0)
        redis_server.kill()
        again = asked(one.url, 2.0)
        assert (again.content, again.headers["cache-status"]) == (first.content, HIT)
        alone = asked(one.url, 3.0)
        assert alone.headers["cache-status"] == "foretell; fwd=bypass"
        again = asked(one.url, 3.0)
        assert (again.content, again.headers["cache-status"]) == (alone.content, HIT)


def test_no_version_answers_with_anothers_rows_while_the_model_goes_and_comes(
    folder: Path, redis_server: RedisServer
) -> None:
    packed(folder, "Second", "2.0.0")
    set_up(folder, "tiered")
    stop = threading.Event()
    with running(
        folder / "models", "--model-control", cwd=folder, FORETELL_CACHE_URL=redis_server.url
    ) as one:

        def asking(number: int) -> list[tuple[int, int]]:
            version = 1 + number % 2
            seen: list[tuple[int, int]] = []
            with httpx.Client(timeout=30) as client:
                for turn in itertools.count():
                    if stop.is_set():
                        return seen
                    path = f"{one.url}/models/m/versions/{version}.0.0/predict"
                    reply = client.post(path, json={"x": 2.0 + turn % 5})
                    if reply.status_code == 200:
                        seen.append((version, reply.json()["prediction"]))
                    else:
                        assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
                        seen.append((0, 0))
            return seen

        with ThreadPoolExecutor(4) as threads:
            all_seen = [threads.submit(asking, number) for number in range(4)]
            for verb in ["unload", "load"] * 15:
                done = httpx.post(f"{one.url}/v2/repository/models/m/{verb}", json={})
                assert done.status_code == 200, done.text
            stop.set()
            told = list(itertools.chain.from_iterable(seen.result() for seen in all_seen))
        assert (0, 0) in told
        assert {version for version, _ in told if version} == {1, 2}
        for version, prediction in told:
            assert prediction // 1_000_000 == version
        # what was kept before is still right
        assert asked(one.url, 2.0).headers["cache-status"] == HIT


def test_a_server_killed_while_it_writes_leaves_only_whole_answers(
    folder: Path, redis_server: RedisServer
) -> None:
    set_up(folder, "redis")
    told: dict[float, int] = {}
    other = start(folder / "models", cwd=folder, FORETELL_CACHE_URL=redis_server.url)
    with running(folder / "models", cwd=folder, FORETELL_CACHE_URL=redis_server.url) as one:
        try:
            other.wait()

            def asking(number: int) -> None:
                with httpx.Client(timeout=30) as client:
                    for turn in itertools.count():
                        first = 2.0 + (number * 1000 + turn) * 1e-3
                        rows = [first + at * 1e-6 for at in range(200)]
                        try:
                            reply = client.post(
                                f"{other.url}/batch_predict",
                                json={"instances": [[x] for x in rows]},
                            )
                        except httpx.TransportError:
                            return  # it was killed
                        told.update(zip(rows, reply.json()["predictions"], strict=True))

            with ThreadPoolExecutor(4) as threads, redis_server.client() as client:
                work = [threads.submit(asking, number) for number in range(4)]
                until(lambda: client.dbsize() > 1000)
                other.stop(signal.SIGKILL)
                for each in work:
                    each.result()
                keys = list(client.scan_iter(count=1000))
                frames = client.mget(keys)
            for key, frame in zip(keys, frames, strict=True):
                assert unframed(key.partition(b"}:")[2], frame) is not None
            rows = list(told)[-2000:]
            hits = 0
            for at in range(0, len(rows), 100):
                some = rows[at : at + 100]
                body = {"instances": [[x] for x in some]}
                reply = httpx.post(f"{one.url}/batch_predict", json=body, timeout=30)
                assert reply.status_code == 200
                if reply.headers["cache-status"] == HIT:
                    hits += 1
                    assert reply.json()["predictions"] == [told[x] for x in some]
            assert hits > 0
            metrics = httpx.get(f"{one.url}/metrics").text
            assert 'foretell_cache_rejected_total{model="m",model_version="1.0.0"} 0' in metrics
        finally:
            other.stop(signal.SIGKILL)
