"""Runs against a server whose latencies are known: what is reported is what happened."""

import asyncio
import time

import numpy as np
import pytest

from foretell.errors import NoAnswer
from foretell.loadtest.recording import Second
from foretell.loadtest.results import Result
from foretell.loadtest.running import Plan, Run
from foretell.loadtest.sending.links import Place
from tests.loadtest.stub import AnswerAt, Book, payload, reply, serving

pytestmark = pytest.mark.slow  # they take as long as what they measure

TOLD = (50.0, 75.0, 90.0, 95.0, 99.0)
WITHIN = 0.02
# Of 200 requests: each percentile that is told lies well within one of the steps.
STEPS_S = [0.05] * 124 + [0.1] * 50 + [0.2] * 21 + [0.4] * 5
STALL_AT_S, STALL_S = 1.0, 1.0


def unwatched(_second: Second) -> None:
    pass


def plan(rate: float | None = None, concurrency: int = 1024, **told: float) -> Plan:
    plain = {"duration_s": 2.0, "warmup_s": 0.0, "timeout_s": 5.0, **told}
    return Plan(rate=rate, concurrency=concurrency, **plain)


async def run(how: Plan, place: Place) -> Result:
    sent = payload()
    return Result(sent, how, await Run(sent, place, how, unwatched).carry_out())


def spread(number: int, now: float) -> float:
    """A known distribution: the steps in an order that mixes them."""
    return now + STEPS_S[number * 77 % len(STEPS_S)]


class Stalling:
    """Answers after 5 ms, but for one second in which it answers nothing."""

    def __init__(self) -> None:
        self.start = 0.0

    def __call__(self, number: int, now: float) -> float:
        self.start = self.start or now
        stall = self.start + STALL_AT_S
        answer = now + 0.005
        return stall + STALL_S if stall <= answer < stall + STALL_S else answer


def percentiles(latencies: list[float]) -> list[float]:
    told: list[float] = np.percentile(latencies, TOLD, method="inverted_cdf").tolist()
    return told


async def measured(how: Plan, answer_at: AnswerAt) -> tuple[Result, Book]:
    async with serving(answer_at) as (place, book):
        return await run(how, place), book


def test_a_known_distribution_comes_out_within_two_percent() -> None:
    how = plan(rate=200, duration_s=4.0, warmup_s=0.5)
    result, book = asyncio.run(measured(how, spread))
    expected = percentiles(book.since_due(200, first=100))
    got = [result.latency.percentile_s(at) for at in TOLD]
    assert result.asked == 800
    assert got == pytest.approx(expected, rel=WITHIN, abs=0.0005)


@pytest.mark.parametrize("concurrency", [4, 1024])
def test_a_stall_counts_for_all_that_were_due_in_it(concurrency: int) -> None:
    how = plan(rate=100, concurrency=concurrency, duration_s=4.0)
    result, book = asyncio.run(measured(how, Stalling()))
    expected = percentiles(book.since_due(100, first=0))
    got = [result.latency.percentile_s(at) for at in TOLD]
    assert got[2:] == pytest.approx(expected[2:], rel=WITHIN)
    # 100 of 400 requests were due in a stall of one second: so says arithmetic, too
    assert got[2] > 0.5 * STALL_S
    if concurrency == 4:  # those that were not even sent did not wait by the other measure
        assert result.service.percentile_s(95) < 0.2 * result.latency.percentile_s(95)


def test_a_closed_loop_does_not_see_the_stall() -> None:
    result, _ = asyncio.run(measured(plan(concurrency=4, duration_s=4.0), Stalling()))
    assert result.latency.max_s == pytest.approx(STALL_S, rel=0.1)
    assert result.latency.percentile_s(99) < 0.2 * STALL_S


def test_as_many_are_under_way_as_was_said() -> None:
    how = plan(concurrency=10, duration_s=0.5)
    result, book = asyncio.run(measured(how, lambda _number, now: now + 0.02))
    assert (book.most_under_way, result.outcome.connections) == (10, 10)


def test_what_was_never_answered_counts_with_its_wait() -> None:
    how = plan(rate=100, concurrency=10, duration_s=1.0, timeout_s=0.5)
    began = time.monotonic()
    result, _ = asyncio.run(measured(how, lambda number, now: now if number < 50 else now + 60))
    assert time.monotonic() - began < 4.0
    recording = result.outcome.recording
    assert recording.answered + recording.unanswered + result.outcome.unsent == 100
    assert recording.answered == 50
    assert result.outcome.unsent > 0
    assert result.error_ratio == pytest.approx(0.5)
    assert result.latency.count == 100
    assert result.latency.percentile_s(75) > 0.4
    assert "did not keep up" in result.verdict or result.limits


def test_refusals_are_errors_without_a_latency() -> None:
    refusal = reply("429 Too Many Requests", b'{"error":"the queue is full","code":"overloaded"}')

    async def work() -> Result:
        async with serving(lambda _number, now: now, [reply(), refusal]) as (place, _):
            return await run(plan(rate=100, duration_s=1.0), place)

    result = asyncio.run(work())
    assert result.outcome.recording.errors == {"429 TOO MANY REQUESTS: the queue is full": 50}
    assert (result.latency.count, result.error_ratio) == (50, 0.5)
    assert result.refusals(None, 0.01) == ["rest: 50.00% of the requests failed, over 1.00%"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(body=b"<html>"), "a body that is no answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "the answer does not say how long it is"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}", "the answer is longer than it says"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "the answer is not HTTP"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: bytes, why: str) -> None:
    async def work() -> Result:
        async with serving(lambda _number, now: now, [answer]) as (place, _):
            return await run(plan(rate=50, duration_s=0.2, timeout_s=1.0), place)

    result = asyncio.run(work())
    assert dict(result.outcome.recording.errors) == {why: 10}


@pytest.mark.parametrize(
    "answer",
    [
        reply(headers="Connection: close\r\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n1;x=y\r\n \r\n0\r\n\r\n",
    ],
)
def test_other_ways_to_end_an_answer_are_understood(answer: bytes) -> None:
    async def work() -> Result:
        async with serving(lambda _number, now: now, [answer]) as (place, _):
            return await run(plan(rate=100, duration_s=0.5), place)

    result = asyncio.run(work())
    assert (result.asked, result.outcome.recording.answered) == (50, 50)


def test_a_generator_that_is_held_up_says_so() -> None:
    async def work() -> Result:
        async with serving(lambda _number, now: now) as (place, _):
            task = asyncio.create_task(run(plan(rate=500, duration_s=1.0), place))
            while not task.done():
                await asyncio.sleep(0.05)
                time.sleep(0.05)  # noqa: ASYNC251 - what holds the loop up
            return await task

    result = asyncio.run(work())
    assert result.limits
    assert "the load generator was the limit" in result.verdict
    assert result.describe()["generator"]["was_the_limit"]


def test_a_generator_that_has_no_time_left_says_so() -> None:
    result, _ = asyncio.run(measured(plan(concurrency=64, duration_s=1.0), lambda _n, now: now))
    assert result.cpu + result.in_line > 0.9
    assert "of a core" in result.limits[0]
    assert "the server answered" not in result.verdict


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(NoAnswer, match="cannot be asked over rest"):
        asyncio.run(run(plan(concurrency=1), Place("127.0.0.1", 9)))
