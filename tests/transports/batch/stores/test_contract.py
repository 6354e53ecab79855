"""What every store promises, whatever keeps its files: one table of cases for all of them."""

from __future__ import annotations

import fcntl
import io
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from foretell.errors import JobRefused, StoreFailed
from foretell.transports.batch.storage import Store, open_store
from foretell.transports.batch.storage.objects import ObjectStore
from tests.transports.batch.stores.conftest import Started, new_folder

LEASE_S = 0.9
LARGE = bytes(range(256)) * (40 * 2**12)  # 40 MiB: three parts of an upload


@pytest.fixture(
    params=[
        "local",
        *(pytest.param(scheme, marks=pytest.mark.slow) for scheme in ("s3", "gs", "az")),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path, started: Started) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "not" / "there"))
    return ObjectStore(new_folder(started(request.param)), LEASE_S)


def an_empty_one_has_no_names(store: Store) -> None:
    assert list(store.names()) == []
    store.clear()


def what_was_put_is_read(store: Store) -> None:
    store.put("a/b.json", b"1")
    store.put("a/b.json", b"22")
    store.put("empty", b"")
    assert store.read("a/b.json") == b"22"
    assert store.read("empty") == b""
    assert store.read_all(["a/b.json", "none", "empty"]) == {"a/b.json": b"22", "empty": b""}


def what_is_not_there_is_a_key_error(store: Store) -> None:
    store.put("a/b", b"")
    for name in ("none", "a", "a/b/c", "a/none"):
        with pytest.raises(KeyError):
            store.read(name)
    for name in ("none", "a/b/c", "a/none"):
        with pytest.raises(KeyError):
            store.open(name)


def names_come_in_order_by_prefix(store: Store) -> None:
    names = ["_foretell/done/part-1.json", "b", "day=1/größe ü/c", "day=10/a", "part-00000.csv"]
    for name in reversed(names):
        store.put(name, b"x")
    assert list(store.names()) == names
    assert list(store.names("day=1/")) == ["day=1/größe ü/c"]
    assert list(store.names("part-")) == ["part-00000.csv"]
    assert list(store.names("_foretell/done/")) == names[:1]
    assert list(store.names("none/")) == []


def a_file_beside_with_a_longer_name_is_no_part_of_it(store: Store) -> None:
    store.put("a", b"")
    open_store(f"{store.place}-2").put("b", b"")
    assert list(store.names()) == ["a"]


def one_of_many_creates(store: Store) -> None:
    many = 8
    together = threading.Barrier(many)

    def create(number: int) -> bool:
        together.wait()
        return store.create("one", str(number).encode())

    with ThreadPoolExecutor(many) as pool:
        won = list(pool.map(create, range(many)))
    assert won.count(True) == 1
    assert store.read("one") == str(won.index(True)).encode()
    assert list(store.names()) == ["one"]


def what_is_written_appears_whole_at_the_end(store: Store, size: int) -> None:
    with store.writing("x/y.bin") as file:
        for start in range(0, size, 7 * 2**20):
            file.write(LARGE[start : min(start + 7 * 2**20, size)])
            assert file.tell() == min(start + 7 * 2**20, size)
        file.flush()
        assert list(store.names()) == []
    assert list(store.names()) == ["x/y.bin"]
    assert store.read("x/y.bin") == LARGE[:size]


def what_is_not_finished_leaves_nothing(store: Store) -> None:
    for size in (10, len(LARGE)):
        for error in (RuntimeError, KeyboardInterrupt):
            with pytest.raises(error):
                fail_writing(store, LARGE[:size], error)
    assert list(store.names()) == []
    store.put("x.bin", b"old")
    with pytest.raises(RuntimeError):
        fail_writing(store, b"new", RuntimeError)
    assert store.read("x.bin") == b"old"
    assert leftovers(store) == 0


def fail_writing(store: Store, data: bytes, error: type[BaseException]) -> None:
    with store.writing("x.bin") as file:
        file.write(data)
        raise error


def two_may_write_one_file_at_once(store: Store) -> None:
    with store.writing("x.bin") as first, store.writing("x.bin") as second:
        first.write(LARGE)
        second.write(LARGE)
    assert store.read("x.bin") == LARGE
    assert list(store.names()) == ["x.bin"]


def any_part_of_a_file_is_read(store: Store) -> None:
    with store.writing("x.bin") as file:
        file.write(LARGE)
    with store.open("x.bin") as file:
        assert file.seek(-5, 2) == len(LARGE) - 5
        assert file.read() == LARGE[-5:]
        file.seek(4 * 2**20 - 3)
        assert file.read(9 * 2**20) == LARGE[4 * 2**20 - 3 : 13 * 2**20 - 3]
        file.seek(1)
        assert file.read(3) == LARGE[1:4]


def removing_what_is_not_there_is_nothing(store: Store) -> None:
    store.put("a/b", b"")
    store.remove("a/b")
    store.remove("a/b")
    store.remove("none/none")
    assert list(store.names()) == []


def clearing_leaves_nothing(store: Store) -> None:
    for name in ("a", "b/c", "_foretell/job.json"):
        store.put(name, b"")
    with store.lock():
        store.clear()
    assert list(store.names()) == []


def a_second_lock_is_refused(store: Store) -> None:
    with store.lock() as lock:
        store.put("a", b"")
        with pytest.raises(JobRefused, match=r"another job \(process \d+, .+ running on"):
            store.lock().__enter__()
        lock.held()
    with store.lock() as again:
        again.held()


def a_lock_that_failed_is_free(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), store.lock():
            raise RuntimeError
    assert list(store.names()) == []


def a_lock_sweeps_what_killed_writers_left(store: Store) -> None:
    writing = store.writing("x.bin")
    writing.__enter__().write(LARGE)
    with store.lock():
        assert leftovers(store) == 0
    with suppress(StoreFailed):
        writing.__exit__(None, None, None)


def it_is_pickled(store: Store) -> None:
    again: Store = pickle.loads(pickle.dumps(store))
    again.put("a", b"1")
    assert store.read("a") == b"1"
    assert again.place == store.place


def leftovers(store: Store) -> int:
    """How many files were begun and not finished."""
    if not isinstance(store, ObjectStore):
        return len(list(Path(store.place).rglob(".*.tmp")))
    if not store.place.startswith("s3"):
        return 0
    bucket, _, key = store.place.removeprefix("s3://").partition("/")
    uploads = store._library.list_multipart_uploads(bucket)
    return sum(upload["Key"].startswith(f"{key}/") for upload in uploads)


CASES: list[Callable[[Store], None]] = [
    an_empty_one_has_no_names,
    what_was_put_is_read,
    what_is_not_there_is_a_key_error,
    names_come_in_order_by_prefix,
    a_file_beside_with_a_longer_name_is_no_part_of_it,
    one_of_many_creates,
    what_is_not_finished_leaves_nothing,
    two_may_write_one_file_at_once,
    any_part_of_a_file_is_read,
    removing_what_is_not_there_is_nothing,
    clearing_leaves_nothing,
    a_second_lock_is_refused,
    a_lock_that_failed_is_free,
    a_lock_sweeps_what_killed_writers_left,
    it_is_pickled,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_every_store_keeps_the_contract(store: Store, case: Callable[[Store], None]) -> None:
    case(store)


@pytest.mark.parametrize("size", [0, 10, len(LARGE)])
def test_what_is_written_appears_whole_at_the_end(store: Store, size: int) -> None:
    what_is_written_appears_whole_at_the_end(store, size)


def test_a_lock_whose_file_goes_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "out"))
    first = store.lock()
    first.__enter__()
    lock = fcntl.flock

    def late(file: io.FileIO, how: int) -> None:
        monkeypatch.undo()
        first.__exit__(None, None, None)
        assert not (tmp_path / "out").exists()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with store.lock() as second:
        second.held()
        with pytest.raises(JobRefused):
            store.lock().__enter__()
