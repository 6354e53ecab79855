"""Carrying a call: what is sent again, when, how often, and never past a deadline."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.client.balancing import Ejection
from foretell.client.calling import Attempt, Kind, Outcome, Request
from foretell.client.retrying import Retries
from foretell.errors import DeadlineExceeded, ForetellError, InvalidInput, NoAnswer, Overloaded
from tests.client.cranked import GOOD, A, B, C, World, failed

REQUEST = Request("/predict", b"{}")
NEVER_OUT = Ejection(failures=10**9)


def playing(*outcomes: Outcome) -> Iterator[Outcome]:
    yield from outcomes
    while True:
        yield GOOD


@pytest.mark.parametrize("kind", [Kind.SHED, Kind.UNREADY, Kind.REFUSED, Kind.BROKEN])
def test_what_is_safe_is_sent_again(kind: Kind) -> None:
    world, told = World(), playing(failed(kind))
    steps = world.calls(A).carry(REQUEST)
    assert world.play(steps, lambda _: next(told)).body == b"good"
    assert world.asked == [A, A]


@pytest.mark.parametrize("kind", [Kind.ANSWERED, Kind.SILENT, Kind.SPOILT])
def test_what_is_not_is_not(kind: Kind) -> None:
    world = World()
    with pytest.raises(ForetellError) as caught:
        world.play(world.calls(A, B).carry(REQUEST), lambda _: failed(kind))
    assert len(world.attempts) == 1
    assert isinstance(caught.value, InvalidInput | DeadlineExceeded | NoAnswer)


def test_a_call_that_broke_twice_is_given_up() -> None:
    world = World()
    with pytest.raises(NoAnswer):
        world.play(world.calls(A, B, C).carry(REQUEST), lambda _: failed(Kind.BROKEN))
    assert len(world.attempts) == 2


def test_another_server_is_asked_without_waiting_for_the_first_one_to_rest() -> None:
    world = World()
    full = {A: failed(Kind.SHED, rest_s=20.0), B: GOOD}
    world.play(world.calls(A, B).carry(REQUEST), lambda attempt: full[attempt.url])
    assert world.asked == [A, B]
    assert sum(world.pauses) <= Retries().first_wait_s


def test_retry_after_is_waited_for_where_there_is_nobody_else() -> None:
    world, told = World(draw=0.0), playing(failed(Kind.SHED, 3.0), failed(Kind.UNREADY, 1.5))
    world.play(world.calls(A).carry(REQUEST), lambda _: next(told))
    assert world.pauses == [3.0, 1.5]


def test_the_first_to_have_rested_is_asked_first() -> None:
    world = World(draw=0.0)
    told = {A: failed(Kind.SHED, 5.0), B: failed(Kind.SHED, 2.0)}

    def server(attempt: Attempt) -> Outcome:
        return told.pop(attempt.url, GOOD)

    world.play(world.calls(A, B).carry(REQUEST), server)
    assert (world.asked, world.pauses) == ([A, B, B], [0.0, 2.0])


def test_nobody_waits_for_longer_than_it_is_worth() -> None:
    world = World()
    with pytest.raises(Overloaded) as caught:
        world.play(world.calls(A).carry(REQUEST), lambda _: failed(Kind.SHED, 3600.0))
    assert (world.pauses, caught.value.retry_after_s) == ([], 3600.0)


def test_pauses_are_drawn_from_a_range_that_doubles_up_to_a_limit() -> None:
    retries = Retries(attempts=8, first_wait_s=0.1, most_backoff_s=1.0)
    world = World(draw=1.0)
    steps = world.calls(A, retries=retries, ejection=NEVER_OUT).carry(REQUEST)
    with pytest.raises(NoAnswer):
        world.play(steps, lambda _: failed(Kind.REFUSED))
    assert world.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
    assert len(world.attempts) == 8
    assert Retries().backoff_s(10**6, lambda: 0.0) == 0.0


kinds = st.sampled_from(list(Kind))


@given(
    st.lists(st.tuples(kinds, st.floats(0, 20)), max_size=12),
    st.floats(0.001, 60),
    st.floats(0, 5),
    st.floats(0, 0.999),
    st.integers(1, 3),
)
def test_nothing_is_sent_or_waited_for_past_a_deadline(
    happenings: list[tuple[Kind, float]],
    timeout_s: float,
    takes_s: float,
    draw: float,
    servers: int,
) -> None:
    world = World(draw=draw)
    told = playing(*(failed(kind, rest_s) for kind, rest_s in happenings))
    urls = (A, B, C)[:servers]
    deadline = world.now + timeout_s
    steps = world.calls(*urls, retries=Retries(attempts=9)).carry(REQUEST, deadline=deadline)
    try:
        world.play(steps, lambda _: next(told), takes_s)
    except ForetellError:
        pass
    else:
        assert world.now <= deadline
    assert world.now <= deadline + 1e-9
    for at, attempt in world.attempts:
        assert at < deadline
        assert attempt.timeout_s == pytest.approx(deadline - at)
    assert 1 <= len(world.attempts) <= 9


def test_what_is_left_of_a_deadline_shrinks_over_attempts() -> None:
    world, told = World(draw=0.0), playing(failed(Kind.SHED, 1.0), failed(Kind.SHED, 1.0))
    steps = world.calls(A).carry(REQUEST, deadline=world.now + 10.0)
    world.play(steps, lambda _: next(told), takes_s=0.5)
    assert [attempt.timeout_s for _, attempt in world.attempts] == [10.0, 8.5, 7.0]


def test_a_deadline_that_passed_before_the_first_attempt_is_told() -> None:
    world = World()
    calls = world.calls(A)
    with pytest.raises(DeadlineExceeded, match="give more timeout_s"):
        world.play(calls.carry(REQUEST, deadline=world.now), lambda _: GOOD)
    assert world.attempts == []
    assert calls.balancer.upstreams[0].outstanding == 0


def test_a_used_up_budget_stops_retries_but_not_calls() -> None:
    world = World()
    retries = Retries(attempts=2, budget=5.0, budget_ratio=0.25)
    calls = world.calls(A, retries=retries, ejection=NEVER_OUT)
    for _ in range(100):
        with pytest.raises(Overloaded):
            world.play(calls.carry(REQUEST), lambda _: failed(Kind.SHED))
    again = len(world.attempts) - 100
    assert again == math.floor(5.0 + 99 * 0.25)  # the first call finds it full
    assert world.play(calls.carry(REQUEST), lambda _: GOOD).body == b"good"


def test_what_reached_nobody_costs_no_budget() -> None:
    world = World()
    retries = Retries(attempts=2, budget=0.0)
    told = playing(failed(Kind.REFUSED))
    world.play(world.calls(A, B, retries=retries).carry(REQUEST), lambda _: next(told))
    assert world.asked == [A, B]


def test_a_server_that_is_gone_is_left_out_soon_and_comes_back() -> None:
    world = World()
    calls = world.calls(A, B)
    gone = True

    def server(attempt: Attempt) -> Outcome:
        return failed(Kind.REFUSED) if attempt.url == A and gone else GOOD

    for _ in range(50):
        world.play(calls.carry(REQUEST), server)
    assert world.asked.count(A) < 10
    gone = False
    world.now += 30.0
    world.attempts.clear()
    for _ in range(10):
        world.play(calls.carry(REQUEST), server)
    assert world.asked.count(A) == 5


@pytest.mark.parametrize(("timeout_s", "silences"), [(2.0, 3), (0.2, 5)])
def test_a_server_that_is_silent_is_left_out_sooner_after_long_silences(
    timeout_s: float, silences: int
) -> None:
    world = World()
    calls = world.calls(A, B)
    lost = 0

    def server(attempt: Attempt) -> Outcome:
        if attempt.url == B:
            return GOOD
        world.now += timeout_s
        return failed(Kind.SILENT)

    while calls.balancer.upstreams[0].out_until is None:
        steps = calls.carry(REQUEST, deadline=world.now + timeout_s)
        try:
            world.play(steps, server)
        except DeadlineExceeded:
            lost += 1
    assert lost == silences


def test_a_call_that_is_dropped_leaves_nothing_behind() -> None:
    calls = World().calls(A)
    steps = calls.carry(REQUEST)
    assert isinstance(next(steps), Attempt)
    assert calls.balancer.upstreams[0].outstanding == 1
    steps.close()
    assert calls.balancer.upstreams[0].outstanding == 0
    assert calls.balancer.upstreams[0].failures == 0
