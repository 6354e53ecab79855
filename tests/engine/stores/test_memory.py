"""The memory store: what was asked for last stays, within its bytes and its time."""

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.engine.stores.memory import ENTRY_BYTES, MemoryStore


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def value(store: MemoryStore, key: bytes) -> bytes | None:
    return store.find([key]).values[0]


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    store = MemoryStore(3 * (ENTRY_BYTES + 1))
    for key in (b"a", b"b", b"c"):
        store.put(key, b"1")
    assert value(store, b"a") == b"1"
    store.put(b"d", b"1")
    assert store.find([b"a", b"b", b"c", b"d"]).values == [b"1", None, b"1", b"1"]
    assert (len(store), store.counts.evicted) == (3, 1)


def test_an_entry_lives_for_its_time_however_often_it_is_asked_for() -> None:
    clock = Clock()
    store = MemoryStore(10**6, 10.0, clock=clock)
    store.put(b"a", b"1")
    clock.now += 9.9
    assert value(store, b"a") == b"1"
    clock.now += 0.1
    assert value(store, b"a") is None
    assert (len(store), store.counts.n_bytes) == (0, 0)


def test_what_is_larger_than_all_of_it_takes_nobody_elses_room() -> None:
    store = MemoryStore(ENTRY_BYTES + 10)
    store.put(b"a", b"1")
    store.put(b"b", b"2" * 11)
    assert store.find([b"a", b"b"]).values == [b"1", None]


def test_some_of_those_that_ask_shortly_before_its_end_make_it_anew() -> None:
    clock, drawn = Clock(), [0.5]
    store = MemoryStore(10**6, 10.0, clock=clock, draw=lambda: drawn[0])
    store.put(b"a", b"1")
    clock.now += 8.9
    drawn[0] = 0.0
    assert store.find([b"a"]).due == []
    clock.now += 0.2
    assert store.find([b"b", b"a"]).due == [1]
    drawn[0] = 0.5
    assert store.find([b"a"]).due == []


operations = st.lists(
    st.tuples(st.sampled_from("pgd"), st.integers(0, 5), st.integers(0, 40)), max_size=60
)


@settings(deadline=None)
@given(operations=operations, room=st.integers(0, 5 * (ENTRY_BYTES + 20)))
def test_it_does_what_a_slow_and_plain_one_does(
    operations: list[tuple[str, int, int]], room: int
) -> None:
    store, plain = MemoryStore(room), OrderedDict[bytes, bytes]()
    for what, number, size in operations:
        key = b"%d" % number
        if what == "p":
            store.put(key, bytes(size))
            plain.pop(key, None)
            if size + ENTRY_BYTES <= room:
                plain[key] = bytes(size)
            while sum(len(one) + ENTRY_BYTES for one in plain.values()) > room:
                plain.popitem(last=False)
        elif what == "g":
            assert value(store, key) == plain.get(key)
            if key in plain:
                plain.move_to_end(key)
        else:
            store.drop(key)
            plain.pop(key, None)
        assert len(store) == len(plain)
        assert store.counts.n_bytes == sum(len(one) + ENTRY_BYTES for one in plain.values())
