"""The balancer: everybody gets its share, who fails is left out for a while, never all of them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.client.balancing import Balance, Balancer, Ejection, Turn, Upstream, upstreams_of
from foretell.errors import BadSettings
from tests.client.cranked import A, B, C

RULES = Ejection(failures=3, out_s=1.0, most_out_s=8.0)
weights = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def balancer(*urls: str, balance: Balance = "round_robin") -> Balancer:
    return Balancer(upstreams_of(urls), balance, RULES)


def weighed(numbers: list[int], balance: Balance) -> Balancer:
    told = {f"http://s{place}": float(weight) for place, weight in enumerate(numbers)}
    return Balancer(upstreams_of(told), balance, RULES)


def one(balancer: Balancer, now: float = 0.0, key: str | None = None) -> str:
    """The server of a call that is answered at once."""
    turn = balancer.choose(now, key)
    balancer.settle(turn, good=True, now=now)
    return turn.upstream.url


def fail(balancer: Balancer, url: str, times: int, now: float = 0.0) -> None:
    upstream = next(u for u in balancer.upstreams if u.url == url)
    for _ in range(times):
        upstream.outstanding += 1
        balancer.settle(Turn(upstream, trial=False), good=False, now=now)


@given(weights, st.integers(1, 4))
def test_weights_are_kept_to_the_call(numbers: list[int], rounds: int) -> None:
    chooser = weighed(numbers, "weighted")
    counted = Counter(one(chooser) for _ in range(sum(numbers) * rounds))
    assert [counted[f"http://s{i}"] for i in range(len(numbers))] == [w * rounds for w in numbers]


@given(st.integers(1, 7), st.integers(0, 50))
def test_round_robin_is_fair_at_every_moment(servers: int, calls: int) -> None:
    chooser = balancer(*(f"http://s{i}" for i in range(servers)))
    counted = Counter(one(chooser) for _ in range(calls))
    shares = [counted[upstream.url] for upstream in chooser.upstreams]
    assert max(shares) - min(shares) <= 1


@given(st.lists(st.booleans(), max_size=60), st.integers(2, 5))
def test_least_outstanding_takes_one_with_the_fewest_calls(
    begins: list[bool], servers: int
) -> None:
    chooser = balancer(*(f"http://s{i}" for i in range(servers)), balance="least_outstanding")
    open_turns: list[Turn] = []
    for begin in begins:
        if begin or not open_turns:
            before = {u.url: u.outstanding for u in chooser.upstreams}
            turn = chooser.choose(0.0)
            assert before[turn.upstream.url] == min(before.values())
            open_turns.append(turn)
        else:
            chooser.settle(open_turns.pop(), good=True, now=0.0)
    assert sum(u.outstanding for u in chooser.upstreams) == len(open_turns)


def test_least_outstanding_spreads_calls_that_follow_one_another() -> None:
    chooser = balancer(A, B, C, balance="least_outstanding")
    assert Counter(one(chooser) for _ in range(9)) == {A: 3, B: 3, C: 3}


@given(st.text(), st.integers(2, 6))
def test_only_the_keys_of_a_server_that_left_move(key: str, servers: int) -> None:
    urls = [f"http://s{i}" for i in range(servers)]
    before = one(balancer(*urls, balance="hash"), key=key)
    assert one(balancer(*reversed(urls), balance="hash"), key=key) == before
    for gone in urls:
        after = one(balancer(*(u for u in urls if u != gone), balance="hash"), key=key)
        assert before in (after, gone)


def test_hashing_keeps_weights_roughly() -> None:
    chooser = weighed([3, 1], "hash")
    counted = Counter(one(chooser, key=f"customer {number}") for number in range(4000))
    assert 0.72 < counted["http://s0"] / 4000 < 0.78


def test_a_key_is_needed_for_hashing_and_only_there() -> None:
    with pytest.raises(BadSettings, match="give key="):
        balancer(A, B, balance="hash").check_key(None)
    with pytest.raises(BadSettings, match="uses no key"):
        balancer(A, B).check_key("x")


def test_failures_in_a_row_put_a_server_out_and_one_call_tries_it_again() -> None:
    chooser = balancer(A, B)
    fail(chooser, A, 3)
    assert {one(chooser, now=0.9) for _ in range(4)} == {B}
    turns = [chooser.choose(1.0) for _ in range(4)]
    assert Counter(turn.upstream.url for turn in turns) == {A: 1, B: 3}
    for turn in turns:
        chooser.settle(turn, good=True, now=1.0)
    assert Counter(one(chooser, now=1.0) for _ in range(4)) == {A: 2, B: 2}


def test_a_success_between_failures_keeps_a_server_in() -> None:
    chooser = balancer(A, B)
    fail(chooser, A, 2)
    assert {one(chooser), one(chooser)} == {A, B}
    fail(chooser, A, 2)
    assert {one(chooser), one(chooser)} == {A, B}


def test_a_server_that_fails_its_trials_is_out_for_longer_each_time() -> None:
    chooser = balancer(A, B)
    fail(chooser, A, 3)
    now, waited = 0.0, []
    for _ in range(6):
        began = now
        while True:
            now += 0.5
            turn = chooser.choose(now)
            chooser.settle(turn, good=turn.upstream.url != A, now=now)
            if turn.trial:
                waited.append(now - began)
                break
    assert waited == pytest.approx([1, 2, 4, 8, 8, 8], abs=0.5)


def test_after_a_good_time_a_server_is_out_for_a_short_time_again() -> None:
    chooser = balancer(A, B)
    for began in (0.0, 100.0):
        fail(chooser, A, 3, now=began)
        turn = next(t for t in (chooser.choose(began + 1.0) for _ in range(2)) if t.trial)
        chooser.settle(turn, good=True, now=began + 1.0)


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([True, False, None]), st.floats(0, 5)),
        max_size=80,
    ),
)
def test_whatever_happens_somebody_is_in_service_and_nobody_out_is_asked(
    servers: int, happenings: list[tuple[int, bool | None, float]]
) -> None:
    chooser = balancer(*(f"http://s{i}" for i in range(servers)))
    under_way: list[Turn] = []
    now = 0.0
    for place, good, later in happenings:
        now += later
        if good is None or not under_way:
            turn = chooser.choose(now)
            until = turn.upstream.out_until
            assert until is None or until <= now
            assert turn.trial == (until is not None)
            under_way.append(turn)
        else:
            chooser.settle(under_way.pop(place % len(under_way)), good=good, now=now)
        assert any(u.out_until is None for u in chooser.upstreams)
        trials = Counter(turn.upstream for turn in under_way if turn.trial)
        assert all(count == 1 for count in trials.values())
    assert sum(u.outstanding for u in chooser.upstreams) == len(under_way)


def test_a_call_that_is_sent_again_goes_where_it_has_not_been() -> None:
    chooser = balancer(A, B, C)
    rests: dict[Upstream, float] = {}
    for _ in range(3):
        turn = chooser.choose(0.0, None, rests)
        assert turn.upstream not in rests
        rests[turn.upstream] = 5.0
    first = next(iter(rests))
    rests[first] = 1.0
    assert chooser.ready_at(0.0, rests) == 1.0
    assert chooser.choose(1.0, None, rests).upstream is first


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ([], "no URL of a server"),
        ("127.0.0.1:8000", "is no address of a server; write http://HOST:PORT"),
        ("ftp://a", "is no address"),
        ("http://", "is no address"),
        ("http://a:0", "is no address"),
        ("http://a:port", "is no address"),
        ("http://a b", "is no address"),
        ("http://a?x", "is no address"),
        (f"http://{'a' * 64}", "is no address of a server"),
        ("http://a=zero", "has the weight 'zero'; write URL=NUMBER"),
        ("http://a=0", "the weight of http://a must be a number greater than 0"),
        ({A: float("inf")}, "greater than 0"),
        ([A, f"{A}/"], "http://a is given twice"),
        ([A, "grpc://b"], "REST or gRPC"),
        ("grpc://a/path", "has a path, which gRPC has not"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(urls: str | list[str], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        upstreams_of(urls)


def test_urls_may_carry_weights_and_paths() -> None:
    found = upstreams_of(["http://a:8000/prefix/=2.5", "https://[::1]:8443"])
    assert [(u.url, u.weight) for u in found] == [
        ("http://a:8000/prefix", 2.5),
        ("https://[::1]:8443", 1.0),
    ]


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(BadSettings, match="must be one of round_robin"):
        Balancer(upstreams_of(A), "random")  # type: ignore[arg-type] # what a caller may write
    with pytest.raises(BadSettings, match="round_robin knows no weights"):
        Balancer(upstreams_of({A: 1.0, B: 2.0}))
