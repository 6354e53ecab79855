"""Leases: one job holds an output, whoever is killed, asleep or cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from foretell.errors import JobRefused, StoreFailed
from foretell.transports.batch.storage.leases import FOLDER, Lease, leased

LEASE_S = 30.0


class Memory:
    """Objects in memory, behind a store that can be cut off."""

    place = "s3://bucket/out"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {"_foretell/job.json": b"{}"}
        self.answers = True
        self.has_conditions = True
        self.loses_answers = False
        self._lock = threading.Lock()

    def names(self, prefix: str = "") -> Iterator[str]:
        self._check()
        with self._lock:
            return iter(sorted(name for name in self.objects if name.startswith(prefix)))

    def read(self, name: str) -> bytes:
        self._check()
        return self.objects[name]

    def put(self, name: str, data: bytes) -> None:
        self._check()
        self.objects[name] = data

    def create(self, name: str, data: bytes) -> bool:
        self._check()
        with self._lock:
            if name in self.objects and self.has_conditions:
                return False
            self.objects[name] = data
            return not self.loses_answers

    def remove(self, name: str) -> None:
        self._check()
        self.objects.pop(name, None)

    def _check(self) -> None:
        if not self.answers:
            raise StoreFailed("it did not answer")


class Time:
    """A clock that is cranked by hand; `meanwhile` happens whenever someone waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def clock() -> Time:
    return Time()


def taking(store: Memory, clock: Time) -> AbstractContextManager[Lease]:
    return leased(store, LEASE_S, clock.wait, clock)


@contextmanager
def given_up(store: Memory, clock: Time) -> Iterator[Lease]:
    """A lease whose owner is killed: it is neither renewed nor given back."""
    context = taking(store, clock)
    yield context.__enter__()
    store.answers = False
    context.__exit__(None, None, None)
    store.answers = True


def leases(store: Memory) -> list[str]:
    return [name for name in store.objects if name.startswith(FOLDER)]


def test_a_lease_given_back_is_taken_at_once(store: Memory, clock: Time) -> None:
    with taking(store, clock) as lease:
        lease.held()
    with taking(store, clock) as lease:
        lease.held()
    assert clock.now == 100.0
    assert leases(store) == [f"{FOLDER}00000002.json"]


def test_nothing_is_left_where_nothing_else_is(store: Memory, clock: Time) -> None:
    with taking(store, clock):
        store.objects.pop("_foretell/job.json")
    assert not store.objects


def test_one_that_is_renewed_is_refused_as_soon_as_that_is_seen(store: Memory, clock: Time) -> None:
    with taking(store, clock) as first:
        clock.meanwhile = first.renew
        with pytest.raises(JobRefused, match=r"another job \(process \d+, .+ running on s3://bu"):
            taking(store, clock).__enter__()
        assert clock.now < 100.0 + LEASE_S / 3
        first.held()


def test_one_whose_owner_was_killed_is_taken_over_after_its_time(
    store: Memory, clock: Time
) -> None:
    with given_up(store, clock):
        pass
    with taking(store, clock) as second:
        second.held()
        assert LEASE_S < clock.now - 100.0 < LEASE_S + 2
        assert leases(store) == [f"{FOLDER}00000002.json"]


def test_an_owner_that_slept_sees_that_it_was_replaced(store: Memory, clock: Time) -> None:
    context = taking(store, clock)
    first = context.__enter__()
    with taking(store, clock) as second:
        before = dict(store.objects)
        first.renew()
        with pytest.raises(JobRefused, match="another job has taken over s3://bucket/out"):
            first.held()
        assert store.objects == before, "it would have taken back what is another's"
        second.held()


def test_an_owner_that_slept_sees_that_another_has_come_and_gone(
    store: Memory, clock: Time
) -> None:
    context = taking(store, clock)
    first = context.__enter__()
    with taking(store, clock):
        store.objects.pop("_foretell/job.json")
    assert not store.objects
    with pytest.raises(JobRefused, match="another job has taken over"):
        first.held()


def test_an_owner_that_slept_does_not_take_a_number_that_was_given_again(
    store: Memory, clock: Time
) -> None:
    context = taking(store, clock)
    first = context.__enter__()
    with taking(store, clock):
        store.objects.pop("_foretell/job.json")
    with taking(store, clock) as third:
        assert leases(store) == [f"{FOLDER}00000001.json"]
        with pytest.raises(JobRefused, match="another job has taken over"):
            first.held()
        third.held()


def test_an_owner_that_slept_goes_on_when_nobody_came(store: Memory, clock: Time) -> None:
    with taking(store, clock) as lease:
        clock.now += 1000 * LEASE_S
        lease.held()
        assert leases(store) == [f"{FOLDER}00000002.json"]
        lease.renew()
        lease.held()
    with taking(store, clock):
        assert leases(store) == [f"{FOLDER}00000003.json"]


def test_an_owner_that_renews_while_it_is_replaced_stops(store: Memory, clock: Time) -> None:
    context = taking(store, clock)
    first = context.__enter__()
    store.put(f"{FOLDER}00000002.json", b"{}")
    first.held()
    first.renew()
    with pytest.raises(JobRefused, match="another job has taken over s3://bucket/out"):
        first.held()


def test_an_owner_that_is_cut_off_stops_before_another_may_begin(
    store: Memory, clock: Time
) -> None:
    with taking(store, clock) as lease:
        store.answers = False
        clock.now += 0.7 * LEASE_S
        lease.renew()
        lease.held()
        clock.now += 0.2 * LEASE_S
        lease.renew()
        with pytest.raises(StoreFailed, match="it did not answer"):
            lease.held()
    assert clock.now - 100.0 < LEASE_S


def test_one_that_answers_again_in_time_goes_on(store: Memory, clock: Time) -> None:
    with taking(store, clock) as lease:
        for _ in range(5):
            store.answers = False
            clock.now += 0.5 * LEASE_S
            lease.renew()
            store.answers = True
            lease.renew()
            clock.now += 0.2 * LEASE_S
            lease.held()


def test_of_many_that_wait_one_gets_it(store: Memory) -> None:
    with given_up(store, Time()):
        pass
    many = 8
    together = threading.Barrier(many)
    won: list[int] = []
    done = threading.Barrier(many)

    def contend(number: int) -> None:
        clock = Time()
        clock.meanwhile = lambda: clock.now > 100.0 + LEASE_S and together.wait()
        try:
            with taking(store, clock):
                won.append(number)
                done.wait()
        except JobRefused:
            done.wait()

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_store_without_conditions_is_no_place_for_jobs(store: Memory, clock: Time) -> None:
    store.has_conditions = False
    with pytest.raises(StoreFailed, match="no conditional writes"):
        taking(store, clock).__enter__()


def test_a_lost_answer_does_not_lose_the_lease(store: Memory, clock: Time) -> None:
    store.loses_answers = True
    with taking(store, clock) as lease:
        lease.held()


def test_a_lease_that_cannot_be_read_is_waited_for(store: Memory, clock: Time) -> None:
    store.objects[f"{FOLDER}00000004.json"] = b"\xff"
    with taking(store, clock):
        assert clock.now > 100.0 + LEASE_S
    assert leases(store) == [f"{FOLDER}00000005.json"]
