"""The contract of states: what was saved is there, for as long and as many as were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foretell.errors import BadSettings, StoreFailed
from foretell.transports.stream.windows.opening import states_of
from foretell.transports.stream.windows.states import Kept, MemoryStates, States
from tests.redis_server import RedisServer

Open = Callable[[Kept], States]
KEPT = Kept("model:stream", 3, 60)


@pytest.fixture(params=["memory", "file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    if request.param != "redis":
        yield None if request.param == "memory" else f"file:{tmp_path / 'state'}"
        return
    server = RedisServer(tmp_path)
    yield f"{server.url}/foretell"
    server.stop()


def test_what_was_saved_last_is_there(place: str | None) -> None:
    async def told() -> None:
        states = states_of(place, KEPT)
        await states.save({b"a": b"1", b"\x00\xff": b"2"})
        await states.save({b"a": b"3"})
        assert await states.load([b"\x00\xff", b"b", b"a"]) == [b"2", None, b"3"]
        await states.close()
        if place is None:
            return
        again, other = states_of(place, KEPT), None
        assert await again.load([b"a"]) == [b"3"]
        await again.close()
        other = states_of(place, KEPT._replace(name="another"))
        assert await other.load([b"a"]) == [None]
        await other.close()

    asyncio.run(told())


def test_of_too_many_keys_the_oldest_are_forgotten(tmp_path: Path) -> None:
    async def told(states: States) -> None:
        for key in (b"a", b"b", b"c", b"a", b"d"):
            await states.save({key: b"1"})
            if place is not None:
                states._forget_at = 0.0  # type: ignore[attr-defined]
        assert await states.load([b"a", b"b", b"c", b"d"]) == [b"1", None, b"1", b"1"]
        await states.close()

    for place in (None, f"file:{tmp_path / 'state'}"):
        asyncio.run(told(states_of(place, KEPT)))


def test_what_nobody_saved_for_long_is_forgotten(tmp_path: Path) -> None:
    now = 0.0

    async def told() -> None:
        nonlocal now
        states = MemoryStates(KEPT, lambda: now)
        await states.save({b"a": b"1"})
        now = 61.0
        assert await states.load([b"a"]) == [None]
        short = states_of(f"file:{tmp_path / 'state'}", KEPT._replace(ttl_s=0.001))
        await short.save({b"a": b"1"})
        await asyncio.sleep(0.002)
        assert await short.load([b"a"]) == [None]
        await short.close()

    asyncio.run(told())


def test_a_file_is_one_streams_alone(tmp_path: Path) -> None:
    place = f"file:{tmp_path / 'state'}"
    first = states_of(place, KEPT)
    with pytest.raises(StoreFailed, match="another stream has it"):
        states_of(place, KEPT)
    asyncio.run(first.close())
    asyncio.run(states_of(place, KEPT).close())


def test_a_file_that_is_none_of_sqlites_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreFailed, match="file is not a database"):
        states_of(f"file:{tmp_path / 'notes'}", KEPT)
    assert (tmp_path / "notes").read_bytes() == b"not a database" * 100


def test_a_full_disk_keeps_nothing_of_a_batch(tmp_path: Path) -> None:
    async def told() -> None:
        states = states_of(f"file:{tmp_path / 'state'}", KEPT)
        await states.save({b"a": b"1"})
        states._file.execute("PRAGMA max_page_count = 6")  # type: ignore[attr-defined]
        with pytest.raises(StoreFailed, match="disk is full"):
            await states.save({b"a": b"2", b"b": b"x" * 100_000})
        assert await states.load([b"a", b"b"]) == [b"1", None]
        await states.close()

    asyncio.run(told())


def test_places_that_are_none_are_refused() -> None:
    with pytest.raises(BadSettings, match="name file:PATH or redis://HOST:PORT/PREFIX"):
        states_of("/var/lib/state", KEPT)
