"""The batch planner: nothing is lost, doubled, reordered or kept without need."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from foretell.core.planner import BatchLimits, BatchPlanner, Part


def planner(max_batch_rows: int = 4, max_wait_s: float = 0.0, places: int = 1) -> BatchPlanner[str]:
    return BatchPlanner(BatchLimits(max_batch_rows, max_wait_s), places=places)


def names(parts: list[Part[str]]) -> list[str]:
    return [part.ticket for part in parts]


def test_what_waits_when_the_model_is_free_leaves_together_at_once() -> None:
    plan = planner()
    plan.offer("a", 1, 10.0)
    plan.offer("b", 2, 10.0)
    assert plan.due_at() == 10.0
    assert plan.dispatch(10.0) == [Part("a", 0, 1, 10.0), Part("b", 0, 2, 10.0)]
    assert plan.due_at() is None


def test_requests_gather_while_a_batch_runs() -> None:
    plan = planner()
    plan.offer("a", 1, 0.0)
    assert names(plan.dispatch(0.0)) == ["a"]
    plan.offer("b", 1, 0.1)
    plan.offer("c", 1, 0.2)
    assert plan.dispatch(0.3) == []
    plan.returned()
    assert names(plan.dispatch(0.3)) == ["b", "c"]


def test_as_many_batches_are_out_as_there_are_places() -> None:
    plan = planner(max_batch_rows=1, places=2)
    for name in "abc":
        plan.offer(name, 1, 0.0)
    assert [names(plan.dispatch(0.0)) for _ in range(3)] == [["a"], ["b"], []]
    plan.returned()
    assert names(plan.dispatch(0.0)) == ["c"]


def test_rows_count_and_what_fits_is_not_split() -> None:
    plan = planner(max_batch_rows=4)
    for name, rows in (("a", 3), ("b", 2), ("c", 2), ("d", 1)):
        plan.offer(name, rows, 0.0)
    batches = []
    while batch := plan.dispatch(0.0):
        batches.append(names(batch))
        plan.returned()
    assert batches == [["a"], ["b", "c"], ["d"]]


def test_a_large_request_takes_turns_with_small_ones() -> None:
    plan = planner(max_batch_rows=4)
    plan.offer("big", 10, 0.0)
    plan.offer("small", 1, 0.0)
    batches = []
    while batch := plan.dispatch(1.0):
        batches.append(batch)
        plan.returned()
    assert batches == [
        [Part("big", 0, 4, 0.0)],
        [Part("small", 0, 1, 0.0)],
        [Part("big", 4, 8, 0.0)],
        [Part("big", 8, 10, 0.0)],
    ]


@pytest.mark.parametrize(("part_rows", "cuts"), [(7, [7, 10]), (10, [10]), (99, [10])])
def test_a_large_request_alone_may_run_in_parts_larger_than_a_batch(
    part_rows: int, cuts: list[int]
) -> None:
    plan: BatchPlanner[str] = BatchPlanner(BatchLimits(4, 0.0, part_rows))
    plan.offer("big", 10, 0.0)
    plan.offer("small", 2, 0.0)
    batches = []
    while batch := plan.dispatch(1.0):
        batches.append(batch)
        plan.returned()
    assert names(batches[0]) == ["big"]
    assert names(batches[1]) == ["small"]  # the rest of the large one, 3 rows, has its turn later
    big = [part for batch in batches for part in batch if part.ticket == "big"]
    assert [part.stop for part in big] == cuts
    assert plan.waiting_rows == 0


def test_a_wait_is_kept_unless_the_batch_is_full() -> None:
    plan = planner(max_batch_rows=4, max_wait_s=0.5)
    plan.offer("a", 1, 1.0)
    assert plan.dispatch(1.4) == []
    assert plan.due_at() == 1.5
    plan.offer("b", 3, 1.4)
    assert names(plan.dispatch(1.4)) == ["a", "b"]
    plan.returned()
    plan.offer("c", 1, 2.0)
    assert names(plan.dispatch(2.5)) == ["c"]


def test_who_withdraws_does_not_run() -> None:
    plan = planner()
    plan.offer("a", 1, 0.0)
    plan.offer("b", 3, 0.0)
    assert plan.withdraw("a")
    assert not plan.withdraw("a")
    assert plan.waiting_rows == 3
    assert names(plan.dispatch(0.0)) == ["b"]
    assert not plan.withdraw("b")


class Planning(RuleBasedStateMachine):
    """Arbitrary arrivals, withdrawals, dispatches and returns, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = BatchLimits(5, 0.25)
        self.plan: BatchPlanner[object] = BatchPlanner(self.limits, places=2)
        self.now = 0.0
        self.waiting: list[Part[object]] = []
        self.out = 0
        self.left: dict[object, int] = {}

    @rule(rows=st.integers(1, 13))
    def offer(self, rows: int) -> None:
        ticket = object()
        self.plan.offer(ticket, rows, self.now)
        self.waiting.append(Part(ticket, 0, rows, self.now))
        self.left[ticket] = 0

    @rule(step=st.floats(0, 0.4))
    def time_passes(self, step: float) -> None:
        self.now += step

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: Any) -> None:
        gone = data.draw(st.sampled_from(self.waiting))
        assert self.plan.withdraw(gone.ticket)
        self.waiting.remove(gone)

    @rule()
    def dispatch(self) -> None:
        batch = self.plan.dispatch(self.now)
        room = self.limits.max_batch_rows
        assert sum(part.stop - part.start for part in batch) <= room
        for part in batch:
            # in order, without a gap, and never a row twice
            known = self.waiting.pop(0)
            ticket, start, stop = known.ticket, known.start, known.stop
            assert (part.ticket, part.start, part.arrived) == (ticket, start, known.arrived)
            assert self.left[ticket] == start
            self.left[ticket] = part.stop
            if part.stop != stop:
                assert len(batch) == 1
                assert part.stop - part.start == room < stop - start
                self.waiting.append(Part(ticket, part.stop, stop, known.arrived))
        if not batch:
            total = sum(part.stop - part.start for part in self.waiting)
            kept = self.waiting and total < room and self.now < self.waiting[0].arrived + 0.25
            assert self.out == 2 or not self.waiting or kept
        elif self.waiting and batch[-1].stop - batch[-1].start < room:
            # nobody is left behind who would have fitted
            first = self.waiting[0]
            used = sum(part.stop - part.start for part in batch)
            assert used + first.stop - first.start > room
        self.out += bool(batch)

    @precondition(lambda self: self.out)
    @rule()
    def returned(self) -> None:
        self.plan.returned()
        self.out -= 1

    @invariant()
    def rows_are_counted(self) -> None:
        assert self.plan.waiting_rows == sum(part.stop - part.start for part in self.waiting)


TestPlanning = Planning.TestCase


@given(st.integers(1, 10), st.lists(st.integers(1, 12), min_size=1), st.sampled_from([0.0, 1.0]))
def test_who_need_not_wait_is_in_the_next_batch(
    max_rows: int, sizes: list[int], max_wait_s: float
) -> None:
    plan: BatchPlanner[int] = BatchPlanner(BatchLimits(max_rows, max_wait_s))
    at_once = {n for n, rows in enumerate(sizes) if not plan.offer(n, rows, 0.0)}
    batch = plan.dispatch(0.0)
    assert at_once <= {part.ticket for part in batch if part.stop == sizes[part.ticket]}
    assert at_once or max_wait_s or sizes[0] > max_rows
    plan.offer(-1, 1, 0.0)
    assert plan.offer(-2, 1, 0.0) or not batch  # the only place is taken


@given(st.integers(1, 10), st.lists(st.integers(1, 12), min_size=1))
def test_every_row_offered_leaves_once_and_in_order(max_rows: int, sizes: list[int]) -> None:
    plan: BatchPlanner[int] = BatchPlanner(BatchLimits(max_rows))
    for number, rows in enumerate(sizes):
        plan.offer(number, rows, 0.0)
    seen: dict[int, int] = dict.fromkeys(range(len(sizes)), 0)
    while batch := plan.dispatch(0.0):
        for part in batch:
            assert seen[part.ticket] == part.start
            seen[part.ticket] = part.stop
        plan.returned()
    assert list(seen.values()) == sizes
    assert plan.waiting_rows == 0


@pytest.mark.parametrize("max_wait_s", [0.0, 1.0])
def test_nothing_is_due_when_nothing_waits(max_wait_s: float) -> None:
    assert planner(max_wait_s=max_wait_s).due_at() is None
    assert planner(max_wait_s=max_wait_s).dispatch(99.0) == []
