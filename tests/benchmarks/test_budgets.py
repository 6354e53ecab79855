"""A verdict is right about its number: which way a limit points, and what was not measured."""

import math

import pytest
from benchmarks.budgets import BUDGETS, Limit, Verdict, at_least, at_most, judge
from benchmarks.harness import Measurement
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SERVERS


def measured(server: str, load: str, cpu_us: float = 1.0, p50_ms: float = 1.0) -> Measurement:
    return Measurement(server, load, cpu_us, 1.0, p50_ms, p50_ms, p50_ms, 1.0)


@pytest.mark.parametrize(
    ("limit", "number", "word"),
    [
        (at_most(6), 5.9, "held"),
        (at_most(6), 6.0, "held"),
        (at_most(6), 6.1, "missed"),
        (at_least(40), 40.0, "held"),
        (at_least(40), 39.9, "missed"),
        (at_most(0, ""), 1.0, "missed"),
        (at_most(6), math.nan, "missed"),
        (at_least(40), math.nan, "missed"),
        (at_most(6), None, "not measured"),
    ],
)
def test_a_limit_is_held_up_to_itself_and_never_by_what_is_no_number(
    limit: Limit, number: float | None, word: str
) -> None:
    assert Verdict("it", limit, number).word == word


def test_each_budget_divides_what_its_words_say() -> None:
    load = "one row, 32 connections"
    found = [
        measured("floor", load, cpu_us=10),
        measured("usual recipe", load, cpu_us=3000),
        measured("foretell", load, cpu_us=50),
        measured("foretell", "one row, 1 connection", p50_ms=0.2),
        measured("usual recipe", "one row, 1 connection", p50_ms=2.0),
    ]
    told = [verdict.measured for verdict in judge(BUDGETS["one-row"], found)]
    assert told == pytest.approx([5.0, 60.0, 0.1])


def test_a_budget_whose_server_was_left_out_is_not_measured_and_says_why() -> None:
    found = [measured("foretell", "one row, 32 connections")]
    verdicts = judge(BUDGETS["one-row"], found, {"floor": "no nginx here", "foretell": "unasked"})
    assert {verdict.word for verdict in verdicts} == {"not measured"}
    assert verdicts[0].why == "unasked; no nginx here"
    assert str(verdicts[0]).endswith("at most 6× (unasked; no nginx here)")  # noqa: RUF001


def test_every_budget_names_a_scenario_with_its_servers() -> None:
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    for name, budgets in BUDGETS.items():
        for budget in budgets:
            assert {budget.server, *budget.against} <= set(scenarios[name].servers)
    for scenario in SCENARIOS:
        assert set(scenario.servers) <= set(SERVERS)


def test_a_verdict_says_the_number_and_the_limit_with_their_unit() -> None:
    assert str(Verdict("CPU", at_most(6), 7.361)) == "CPU: 7.36×, at most 6×"  # noqa: RUF001
    assert str(Verdict("memory", at_most(150, "MiB"), 97.34)) == "memory: 97.3 MiB, at most 150 MiB"
    assert str(Verdict("rate", at_least(40), 1234.5)) == "rate: 1,234×, at least 40×"  # noqa: RUF001
    assert str(Verdict("imports", at_most(0, ""), None)) == "imports: at most 0"
    assert str(Verdict("hundred", at_most(100, "%"), 100.0)) == "hundred: 100 %, at most 100 %"


@pytest.mark.parametrize(
    ("limit", "number", "spoken"),
    [
        (at_most(1.5), 1.5004, "1.5004×"),  # noqa: RUF001
        (at_least(40), 39.96, "39.96×"),  # noqa: RUF001
        (at_least(100), 99.999, "99.999×"),  # noqa: RUF001
        (at_most(0, ""), 0.001, "0.001"),
        (at_most(1.5), 1.4996, "1.5×"),  # noqa: RUF001
    ],
)
def test_rounding_never_hides_that_a_limit_was_missed(
    limit: Limit, number: float, spoken: str
) -> None:
    assert limit.spoken(number) == spoken
