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


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    store = MemoryStore(3 * (ENTRY_BYTES + 1))
    for key in (b"a", b"b", b"c"):
        store.put(key, b"1")
    assert store.get(b"a") == b"1"
    store.put(b"d", b"1")
    assert store.find([b"a", b"b", b"c", b"d"]) == [b"1", None, b"1", b"1"]
    assert (len(store), store.evicted) == (3, 1)


def test_an_entry_lives_for_its_time_however_often_it_is_asked_for() -> None:
    clock = Clock()
    store = MemoryStore(10**6, 10.0, clock=clock)
    store.put(b"a", b"1")
    clock.now += 9.9
    assert store.get(b"a") == b"1"
    clock.now += 0.1
    assert store.get(b"a") is None
    assert (len(store), store.held_bytes) == (0, 0)


def test_what_is_larger_than_all_of_it_takes_nobody_elses_room() -> None:
    store = MemoryStore(ENTRY_BYTES + 10)
    store.put(b"a", b"1")
    store.put(b"b", b"2" * 11)
    assert store.find([b"a", b"b"]) == [b"1", None]


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
            while sum(len(value) + ENTRY_BYTES for value in plain.values()) > room:
                plain.popitem(last=False)
        elif what == "g":
            assert store.get(key) == plain.get(key)
            if key in plain:
                plain.move_to_end(key)
        else:
            store.drop(key)
            plain.pop(key, None)
        assert len(store) == len(plain)
        assert store.held_bytes == sum(len(value) + ENTRY_BYTES for value in plain.values())
