"""The batch planner: nothing is lost, doubled, reordered or kept without need."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from foretell.core.planner import BatchLimits, BatchPlanner


def planner(max_batch_rows: int = 4, max_wait_s: float = 0.0) -> BatchPlanner[str]:
    return BatchPlanner(BatchLimits(max_batch_rows, max_wait_s))


def test_what_waits_when_the_model_is_free_leaves_together_at_once() -> None:
    plan = planner()
    plan.offer("a", 1, 10.0)
    plan.offer("b", 2, 10.0)
    assert plan.due_at() == 10.0
    assert plan.dispatch(10.0) == ["a", "b"]
    assert plan.due_at() is None


def test_requests_gather_while_a_batch_runs() -> None:
    plan = planner()
    plan.offer("a", 1, 0.0)
    assert plan.dispatch(0.0) == ["a"]
    plan.offer("b", 1, 0.1)
    plan.offer("c", 1, 0.2)
    assert plan.dispatch(0.3) == []
    plan.returned()
    assert plan.dispatch(0.3) == ["b", "c"]


def test_rows_count_and_requests_are_not_split() -> None:
    plan = planner(max_batch_rows=4)
    for name, rows in (("a", 3), ("b", 2), ("big", 9), ("c", 1)):
        plan.offer(name, rows, 0.0)
    batches = []
    while batch := plan.dispatch(0.0):
        batches.append(batch)
        plan.returned()
    assert batches == [["a"], ["b"], ["big"], ["c"]]


def test_a_wait_is_kept_unless_the_batch_is_full() -> None:
    plan = planner(max_batch_rows=4, max_wait_s=0.5)
    plan.offer("a", 1, 1.0)
    assert plan.dispatch(1.4) == []
    assert plan.due_at() == 1.5
    plan.offer("b", 3, 1.4)
    assert plan.dispatch(1.4) == ["a", "b"]
    plan.returned()
    plan.offer("c", 1, 2.0)
    assert plan.dispatch(2.5) == ["c"]


def test_who_withdraws_does_not_run() -> None:
    plan = planner()
    plan.offer("a", 1, 0.0)
    plan.offer("b", 3, 0.0)
    assert plan.withdraw("a")
    assert not plan.withdraw("a")
    assert plan.waiting_rows == 3
    assert plan.dispatch(0.0) == ["b"]
    assert not plan.withdraw("b")


class Planning(RuleBasedStateMachine):
    """Arbitrary arrivals, withdrawals, dispatches and returns, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = BatchLimits(5, 0.25)
        self.plan: BatchPlanner[object] = BatchPlanner(self.limits)
        self.now = 0.0
        self.waiting: list[tuple[object, int, float]] = []
        self.busy = False

    @rule(rows=st.integers(1, 8))
    def offer(self, rows: int) -> None:
        ticket = object()
        self.plan.offer(ticket, rows, self.now)
        self.waiting.append((ticket, rows, self.now))

    @rule(step=st.floats(0, 0.4))
    def time_passes(self, step: float) -> None:
        self.now += step

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: Any) -> None:
        gone = data.draw(st.sampled_from(self.waiting))
        assert self.plan.withdraw(gone[0])
        self.waiting.remove(gone)

    @rule()
    def dispatch(self) -> None:
        batch = self.plan.dispatch(self.now)
        first = self.waiting[: len(batch)]
        assert batch == [ticket for ticket, _, _ in first]
        rows = sum(n for _, n, _ in first)
        assert rows <= self.limits.max_batch_rows or len(batch) == 1
        total = sum(n for _, n, _ in self.waiting)
        if self.busy or not self.waiting:
            assert batch == []
        elif total >= self.limits.max_batch_rows or self.now >= self.waiting[0][2] + 0.25:
            assert batch
            # nobody is left behind who would have fitted
            left = self.waiting[len(batch) :]
            assert not left or rows + left[0][1] > self.limits.max_batch_rows
        self.busy = self.busy or bool(batch)
        del self.waiting[: len(batch)]

    @precondition(lambda self: self.busy)
    @rule()
    def returned(self) -> None:
        self.plan.returned()
        self.busy = False

    @invariant()
    def rows_are_counted(self) -> None:
        assert self.plan.waiting_rows == sum(n for _, n, _ in self.waiting)


TestPlanning = Planning.TestCase


@given(st.integers(1, 10), st.lists(st.integers(1, 12), min_size=1))
def test_everything_offered_leaves_in_order(max_rows: int, sizes: list[int]) -> None:
    plan: BatchPlanner[int] = BatchPlanner(BatchLimits(max_rows))
    for number, rows in enumerate(sizes):
        plan.offer(number, rows, 0.0)
    left: list[int] = []
    while batch := plan.dispatch(0.0):
        left += batch
        plan.returned()
    assert left == list(range(len(sizes)))
    assert plan.waiting_rows == 0


@pytest.mark.parametrize("max_wait_s", [0.0, 1.0])
def test_nothing_is_due_when_nothing_waits(max_wait_s: float) -> None:
    assert planner(max_wait_s=max_wait_s).due_at() is None
    assert planner(max_wait_s=max_wait_s).dispatch(99.0) == []
