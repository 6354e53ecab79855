"""How an overload is judged: by what came back, never by the silence."""

from dataclasses import replace

from benchmarks.overload import WAIT_LIMIT, Overloaded, judge

GOOD = Overloaded(
    capacity_per_s=100,
    offered_per_s=400,
    accepted_per_s=98,
    accepted_p50_ms=200,
    accepted_p99_ms=240,
    longest_wait_ms=240,
    shed_p99_ms=3,
    without_retry_after=0,
    other=0,
    rss_grew_percent=1,
    others_percent=0,
)


def words(one: Overloaded) -> list[str]:
    """Of: answered, p99, without Retry-After, other answers, memory."""
    return [verdict.word for verdict in judge(one, [GOOD, one] if one.shed_p99_ms else [one])]


def test_a_server_that_sheds_what_it_cannot_take_holds_every_budget() -> None:
    assert words(GOOD) == ["held"] * 5


def test_what_happened_in_one_round_only_counts_too() -> None:
    assert words(replace(GOOD, without_retry_after=1, other=1))[2:4] == ["missed", "missed"]


def test_who_waits_longer_than_the_queue_allows_misses_the_limit() -> None:
    too_long = GOOD.longest_wait_ms * WAIT_LIMIT.number + 1
    assert words(replace(GOOD, accepted_p99_ms=too_long))[1] == "missed"


def test_no_answers_hold_no_budget_of_answers() -> None:
    silent = replace(GOOD, accepted_per_s=0, accepted_p50_ms=0, accepted_p99_ms=0, shed_p99_ms=0)
    assert words(silent)[:3] == ["missed", "not measured", "not measured"]
