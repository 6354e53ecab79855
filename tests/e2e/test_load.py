"""Slow, dying and overloaded models behind a real socket: the server stays up and honest."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from foretell.packing import pack
from tests.servers import Server, running

pytestmark = pytest.mark.slow


class Place:
    """Where a gated model's gate is, and what it has seen."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        self._seen = folder / "seen"
        self.gate.touch()

    @property
    def seen(self) -> list[float]:
        return [float(line) for line in self._seen.read_text().split()]

    def until_seen(self, x: float) -> None:
        until(lambda: x in self.seen)


def until(holds: Callable[[], bool]) -> None:
    """Wait for something another process does."""
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to pass")


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, at any depth."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    below = [int(child) for thread in threads for child in thread.read_text().split()]
    return below + [inner for one in below for inner in descendants(one)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextmanager
def serving(place: Place, *arguments: str) -> Iterator[Server]:
    """A server of one gated model, whose gate is closed once it runs."""
    folder = place.gate.parent
    (folder / "place.txt").write_text(str(folder))
    code = Path(__file__).parent
    pack(
        ["gated:Gated", folder / "place.txt"],
        name="gated",
        repository=folder / "models",
        python_path=code,
    )
    with running(folder / "models", *arguments) as server:
        place.gate.unlink()
        try:
            yield server
        finally:
            place.gate.touch()


def ask(server: Server, *values: float, **headers: str) -> httpx.Response:
    body = {"instances": [[value] for value in values]}
    return httpx.post(f"{server.url}/batch_predict", json=body, headers=headers, timeout=60)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_slow_model_blocks_nothing_else(place: Place, kind: str) -> None:
    with serving(place, "--executor", kind) as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, server, 11)
        place.until_seen(11)
        for path in ("/health", "/health/ready", "/models/gated"):
            assert httpx.get(server.url + path, timeout=5).status_code == 200
        assert not slow.done()
        place.gate.touch()
        assert slow.result().json()["predictions"] == [22]


def test_a_deadline_is_kept_and_its_rows_do_not_run(place: Place) -> None:
    with serving(place, "--executor", "thread") as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, server, 11)
        place.until_seen(11)
        late = ask(server, 12, **{"X-Request-Timeout-Ms": "50"})
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        for wrong in ("0", "-1", "1.5", "soon", "99999999999"):
            bad = ask(server, 13, **{"X-Request-Timeout-Ms": wrong})
            assert (bad.status_code, bad.json()["code"]) == (400, "invalid_input")
        place.gate.touch()
        assert slow.result().status_code == 200
        assert ask(server, 14, **{"X-Request-Timeout-Ms": "30000"}).status_code == 200
    assert {12, 13}.isdisjoint(place.seen)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_model_that_hangs_does_not_keep_the_server_from_ending(place: Place, kind: str) -> None:
    arguments = ("--executor", kind, "--shutdown-timeout-s", "1")
    with serving(place, *arguments) as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, server, 11)
        place.until_seen(11)
        family = descendants(server.process.pid)
        assert server.stop() == 0
        assert slow.exception() is not None
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def test_a_full_queue_answers_429_and_when_to_come_back(place: Place) -> None:
    arguments = ("--executor", "thread", "--max-queue-rows", "4")
    with serving(place, *arguments) as server, ThreadPoolExecutor(20) as pool:
        first = pool.submit(ask, server, 11)
        place.until_seen(11)
        asked: list[Future[httpx.Response]] = [pool.submit(ask, server, n) for n in range(12)]
        until(lambda: sum(one.done() for one in asked) == 8)
        place.gate.touch()
        replies = [one.result() for one in asked]
        assert first.result().status_code == 200
    shed = [reply for reply in replies if reply.status_code == 429]
    assert len(shed) == 8
    assert {reply.status_code for reply in replies} == {200, 429}
    assert all(reply.json()["code"] == "overloaded" for reply in shed)
    assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in shed)


# h2corn does not tell an application that an HTTP/1.1 client left: docs/decisions/0006.
@pytest.mark.parametrize(("kind", "http2"), [("h2corn", True), ("uvicorn", False)])
def test_rows_of_a_client_that_left_do_not_run(place: Place, kind: str, http2: bool) -> None:
    arguments = ("--executor", "thread", "--server", kind)
    with serving(place, *arguments) as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, server, 11)
        place.until_seen(11)
        leaving = httpx.Client(http1=not http2, http2=http2, timeout=0.3)
        with leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post(f"{server.url}/predict", json={"x": 12})
        assert httpx.get(f"{server.url}/health").status_code == 200
        place.gate.touch()
        assert slow.result().status_code == 200
        assert ask(server, 14).status_code == 200
    assert 12 not in place.seen


def test_a_model_whose_process_dies_fails_its_calls_only(place: Place) -> None:
    with serving(place, "--executor", "gated=process") as server:
        place.gate.touch()
        dead = ask(server, -2)
        assert (dead.status_code, dead.json()["code"]) == (500, "model_failed")
        assert "its process died, exit code 7" in dead.json()["error"]
        assert ask(server, 5).json()["predictions"] == [10]
        workers = descendants(server.process.pid)
        assert len(workers) >= 2  # the worker, and the model's process below it
    assert "Traceback" in server.log
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_overload_is_answered_at_capacity(place: Place) -> None:
    """Forty impatient clients at a model that takes its time: all are answered, none hangs."""
    arguments = ("--executor", "thread", "--max-queue-rows", "8", "--max-batch-rows", "4")
    with serving(place, *arguments) as server, ThreadPoolExecutor(40) as pool:
        place.gate.touch()
        replies = list(pool.map(lambda n: ask(server, n), range(400)))
        assert {reply.status_code for reply in replies} <= {200, 429}
        good = [n for n, reply in enumerate(replies) if reply.status_code == 200]
        assert good
        for n in good:
            assert replies[n].json()["predictions"] == [2 * n]
