"""A Redis store: shared by all, and whatever becomes of Redis, the model answers in time."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.call import CacheStatus
from foretell.engine.stores.breaker import Breaker
from foretell.engine.stores.framing import framed, unframed
from foretell.engine.stores.memory import MemoryStore
from foretell.engine.stores.redis import RedisStore
from foretell.engine.stores.tiered import TieredStore
from foretell.errors import BadSettings
from tests.engine.stores.test_cached import Scene
from tests.redis_server import RedisServer, free_port

pytestmark = pytest.mark.slow
IDENTITY = bytes(range(32))
HIT, MISS = CacheStatus(1, 0, 0), CacheStatus(0, 0, 1)
AROUND = CacheStatus(0, 0, 1, bypassed=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    one = RedisServer(tmp_path, "--appendonly", "no")
    yield one
    one.stop()


def store_at(
    url: str, ttl_s: float | None = 60.0, timeout_s: float = 0.2, model: str = "m"
) -> RedisStore:
    return RedisStore(url, model, IDENTITY, ttl_s=ttl_s, timeout_s=timeout_s)


@asynccontextmanager
async def scenes(*stores: RedisStore | TieredStore) -> AsyncIterator[list[Scene]]:
    """One worker for each store."""
    made = []
    for store in stores:
        made.append(one := Scene())
        one.cached._store = store
    yield made
    for store in stores:
        store.close()
    await asyncio.sleep(0)


def played(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 50))


async def until(what: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it does not happen"
        await asyncio.sleep(0.005)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "cache" in record.getMessage()]


def test_what_one_worker_has_asked_another_one_knows(server: RedisServer) -> None:
    async def scene() -> None:
        async with scenes(store_at(server.url), store_at(server.url)) as (one, other):
            assert await one.asked(1.0, 2.0) == ([2.0, 4.0], CacheStatus(0, 0, 2))
            with server.client() as client:
                await until(lambda: client.dbsize() == 2)
                told = list(client.scan_iter())
                assert all(key.startswith(b"foretell:{m:0001020304050607}:") for key in told)
                assert all(50_000 < client.pttl(key) <= 60_000 for key in told)
            assert await other.asked(3.0, 2.0, 1.0) == ([6.0, 4.0, 2.0], CacheStatus(2, 0, 1))
            assert other.model.ran == [[3.0]]

    played(scene)


def test_lookups_of_one_turn_are_one_command_and_equal_rows_run_once(server: RedisServer) -> None:
    async def scene() -> None:
        async with scenes(store_at(server.url)) as (one,):
            await one.asked(0.0)
            with server.client() as client:
                await until(lambda: client.dbsize() == 1)
                before = client.info("commandstats")["cmdstat_mget"]["calls"]
                told = await asyncio.gather(*(one.asked(float(n % 8)) for n in range(64)))
                after = client.info("commandstats")["cmdstat_mget"]["calls"]
            assert [values for values, _ in told] == [[2.0 * (n % 8)] for n in range(64)]
            assert after - before == 1
            assert sum(map(len, one.model.ran)) == 8

    played(scene)


@settings(deadline=None)
@given(
    key=st.binary(max_size=8),
    value=st.binary(max_size=20),
    end=st.floats(0, 1e10),
    at=st.integers(0, 200),
    bit=st.integers(0, 7),
)
def test_a_frame_with_one_bit_changed_or_of_another_key_is_none(
    key: bytes, value: bytes, end: float, at: int, bit: int
) -> None:
    frame = framed(key, value, end)
    assert unframed(key, frame) == (value, end)
    changed = bytearray(frame)
    changed[at % len(frame)] ^= 1 << bit
    assert unframed(key, bytes(changed)) is None
    assert unframed(key + b"x", frame) is None
    assert unframed(key, frame[:-1]) is None
    assert unframed(key, frame + b"x") is None


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"\x01" * 40, b"\x00" * 17, "swapped"])
def test_rubbish_is_counted_and_replaced(server: RedisServer, rubbish: bytes | str) -> None:
    async def scene() -> None:
        async with scenes(store_at(server.url)) as (one,):
            await one.asked(1.0)
            await one.asked(2.0)
            with server.client() as client:
                await until(lambda: client.dbsize() == 2)
                first, second = client.scan_iter()
                right = client.get(first), client.get(second)
                for key, other in ((first, right[1]), (second, right[0])):
                    client.set(key, other if rubbish == "swapped" else rubbish)
                assert await one.asked(1.0) == ([2.0], MISS)
                assert await one.asked(2.0) == ([4.0], MISS)
                assert one.cached._store.counts.rejected == 2
                await until(lambda: client.pttl(first) > 0 and client.pttl(second) > 0)
            assert await one.asked(1.0) == ([2.0], HIT)

    played(scene)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_redis_goes_and_comes_back(
    server: RedisServer, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async def scene() -> None:
        store = store_at(server.url, timeout_s=0.05)
        async with scenes(store) as (one,):
            await one.asked(1.0)
            await store.written()
            (server.kill if how == "killed" else server.freeze)()
            took = []
            for _ in range(40):
                began = time.monotonic()
                told = await one.asked(1.0)
                took.append(time.monotonic() - began)
                assert told == ([2.0], AROUND)
            assert max(took) < 1.0
            assert sorted(took)[-4] < 0.02  # three were kept waiting
            await asyncio.sleep(1.0)  # it is tried again, without success
            (server.start if how == "killed" else server.thaw)()
            await until(lambda: not store._breaker.is_open)
            await one.asked(1.0)

            async def hits() -> bool:
                return (await one.asked(1.0))[1] == HIT

            deadline = time.monotonic() + 10
            while not await hits():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            lines = logged(caplog)
            assert len(lines) == 2, lines
            assert "the cache of m in Redis is left alone: " in lines[0]
            assert lines[1] == "the cache of m in Redis is asked again"

    with caplog.at_level(logging.INFO, "foretell.engine"):
        played(scene)


def test_a_full_redis_still_answers_and_says_once_that_it_takes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")

    async def scene() -> None:
        async with scenes(store_at(server.url)) as (one,):
            await one.asked(1.0)
            store: Any = one.cached._store
            with server.client() as client:
                await until(lambda: client.dbsize() == 1)
                client.config_set("maxmemory", "1")
                for n in range(5):
                    assert await one.asked(10.0 + n) == ([20.0 + 2 * n], MISS)
                    await store.written()
                assert store.counts.unwritten == 5
                assert await one.asked(1.0) == ([2.0], HIT)
                client.config_set("maxmemory", "0")
                await one.asked(20.0)
                await until(lambda: client.dbsize() == 2)
            assert await one.asked(20.0) == ([40.0], HIT)
            lines = logged(caplog)
            assert len(lines) == 2, lines
            assert "keeps nothing more: " in lines[0]
            assert "keeps answers again" in lines[1]

    try:
        with caplog.at_level(logging.INFO, "foretell.engine"):
            played(scene)
    finally:
        server.stop()


def test_a_wrong_password_is_told_once_and_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path, "--appendonly", "no", password="right")

    async def scene() -> None:
        url = server.url.replace("right", "secret")
        async with scenes(store_at(url), store_at(server.url)) as (one, other):
            for _ in range(6):
                assert await one.asked(1.0) == ([2.0], AROUND)
            assert await other.asked(1.0) == ([2.0], MISS)
            (line,) = logged(caplog)
            assert "left alone" in line
            assert "secret" not in caplog.text

    try:
        with caplog.at_level(logging.INFO, "foretell.engine"):
            played(scene)
    finally:
        server.stop()


def test_nothing_listens_there() -> None:
    async def scene() -> None:
        async with scenes(store_at(f"redis://127.0.0.1:{free_port()}")) as (one,):
            for _ in range(20):
                assert await one.asked(1.0) == ([2.0], AROUND)
            assert one.told.bypassed == 20

    played(scene)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+\r\n$-7\r\n*9\r\n"])
def test_whoever_listens_there_is_no_redis(said: bytes) -> None:
    async def scene() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(said)
            if said:
                writer.close()
            else:  # a black hole
                await reader.read()
                writer.close()

        listening = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening:
            store = store_at(f"redis://127.0.0.1:{port}", timeout_s=0.02)
            async with scenes(store) as (one,):
                for _ in range(20):
                    assert await one.asked(1.0) == ([2.0], AROUND)
                assert store._breaker.is_open

    played(scene)


def test_a_row_that_ends_soon_is_answered_and_written_anew(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretell.engine.stores.redis.EARLY", 1.0)  # all of a life, and everybody

    async def scene() -> None:
        store = store_at(server.url, ttl_s=10_000.0)
        async with scenes(store) as (one,):
            await one.asked(1.0)
            await store.written()
            assert await one.asked(1.0) == ([2.0], HIT)
            await until(lambda: len(one.model.ran) == 2)
            await store.written()
            assert (await one.ask(1.0)).outputs.columns[1].tolist() == [2]

    played(scene)


def test_no_more_waits_to_be_written_than_is_allowed(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretell.engine.stores.redis._MOST_UNWRITTEN", 2)

    async def scene() -> None:
        store = store_at(server.url)
        async with scenes(store) as (one,):
            await one.asked(*map(float, range(5)))
            await store.written()
            assert store.counts.unwritten == 3
            with server.client() as client:
                assert client.dbsize() == 2

    played(scene)


def test_what_is_written_again_before_it_left_takes_no_room_twice(server: RedisServer) -> None:
    async def scene() -> None:
        store, key = store_at(server.url), bytes(32)
        for _ in range(1000):
            store.put(key, bytes(20_000))
        await store.written()
        store.put(key, bytes(20_000))
        await store.written()
        assert store.counts.unwritten == 0
        store.close()

    played(scene)


def test_a_closed_store_leaves_redis_alone() -> None:
    async def scene() -> None:
        tries = 0

        async def attempt() -> None:
            nonlocal tries
            tries += 1

        breaker = Breaker("it", attempt, (OSError,))
        breaker.close()
        before = asyncio.all_tasks()
        for _ in range(10):
            breaker.failed("gone")
        assert asyncio.all_tasks() == before
        assert not breaker.is_open

    played(scene)


def test_a_caller_that_leaves_while_redis_is_asked_has_nothing_run() -> None:
    async def scene() -> None:
        with socket.socket() as hole:
            hole.bind(("127.0.0.1", 0))
            hole.listen()
            store = store_at(f"redis://127.0.0.1:{hole.getsockname()[1]}", timeout_s=0.05)
            async with scenes(store) as (one,):
                asked = one.ask(1.0)
                await asyncio.sleep(0)
                asked.cancel()
                await asyncio.sleep(0.1)
                assert one.model.ran == []
                assert len(one.told.drops) == 1

    played(scene)


def test_memory_is_in_front_and_keeps_what_was_behind(server: RedisServer) -> None:
    async def scene() -> None:
        tiers = [TieredStore(MemoryStore(10**6, 60.0), store_at(server.url)) for _ in range(2)]
        async with scenes(*tiers) as (one, other):
            await one.asked(1.0)
            with server.client() as client:
                await until(lambda: client.dbsize() == 1)
                assert await other.asked(1.0) == ([2.0], HIT)
                client.flushall()
            assert await one.asked(1.0) == ([2.0], HIT)
            assert await other.asked(1.0, 2.0) == ([2.0, 4.0], CacheStatus(1, 0, 1))
            assert tiers[1].counts.entries == 2

    played(scene)


def test_memory_goes_on_alone_when_redis_is_gone(server: RedisServer) -> None:
    async def scene() -> None:
        tiered = TieredStore(MemoryStore(10**6, 60.0), store_at(server.url))
        async with scenes(tiered) as (one,):
            await one.asked(1.0)
            server.kill()
            for _ in range(5):
                await one.asked(2.0)
            assert await one.asked(1.0) == ([2.0], HIT)
            assert await one.asked(2.0) == ([4.0], HIT)

    played(scene)


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@localhost",
        "redis://localhost/0?foo=bar",
        "redis://localhost?decode_responses=true",
        "rediss://localhost?ssl_cert_reqs=foo",
    ],
)
def test_a_url_that_cannot_work_is_refused_when_the_server_starts(url: str) -> None:
    with pytest.raises(BadSettings, match="cache's Redis"):
        store_at(url)


def test_a_user_that_may_do_little_is_enough(server: RedisServer) -> None:
    async def scene() -> None:
        with server.client() as client:
            rules = ["on", ">secret", "~foretell:*", "-@all", "+mget", "+set"]
            client.execute_command("ACL", "SETUSER", "cache", *rules)
            url = server.url.replace("//", "//cache:secret@")
            async with scenes(store_at(url)) as (one,):
                await one.asked(1.0)
                await until(lambda: client.dbsize() == 1)
                assert await one.asked(1.0) == ([2.0], HIT)

    played(scene)


def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    port = free_port()
    files = {"ca-cert": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    told = [f"--tls-{name}-file" for name in files], [str(tmp_path / f) for f in files.values()]
    flags = [word for pair in zip(*told, strict=True) for word in pair]
    server = RedisServer(tmp_path, *flags, "--tls-port", str(port), "--tls-auth-clients", "no")

    async def scene() -> None:
        url = f"rediss://localhost:{port}"
        good = store_at(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}")
        async with scenes(good, store_at(url)) as (one, stranger):
            await one.asked(1.0)
            with server.client() as client:
                await until(lambda: client.dbsize() == 1)
            assert await one.asked(1.0) == ([2.0], HIT)
            for _ in range(5):
                assert await stranger.asked(1.0) == ([2.0], AROUND)

    try:
        played(scene)
    finally:
        server.stop()
