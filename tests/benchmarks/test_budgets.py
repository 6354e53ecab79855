"""A verdict is right about its number: which way a limit points, and what was not measured."""

import math

import pytest
from benchmarks.budgets import BUDGETS, Verdict, at_least, at_most, judge
from benchmarks.harness import Measurement, medians
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
    limit: object, number: float | None, word: str
) -> None:
    assert Verdict("it", limit, number).word == word  # type: ignore[arg-type] # of at_most


def test_each_budget_divides_what_its_words_say() -> None:
    load = "one row, 32 connections"
    found = [
        measured("floor", load, cpu_us=10),
        measured("usual recipe", load, cpu_us=3000),
        measured("foretell", load, cpu_us=50),
        measured("foretell", "one row, 1 connection", p50_ms=0.2),
        measured("usual recipe", "one row, 1 connection", p50_ms=2.0),
    ]
    told = [verdict.measured for verdict in judge("one-row", found)]
    assert told == pytest.approx([5.0, 60.0, 0.1])


def test_a_budget_whose_server_was_left_out_is_not_measured() -> None:
    found = [measured("foretell", "one row, 32 connections")]
    assert {verdict.word for verdict in judge("one-row", found)} == {"not measured"}


def test_every_budget_names_a_scenario_with_its_servers() -> None:
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    for budget in BUDGETS:
        assert {budget.server, budget.against} <= set(scenarios[budget.scenario].servers)
    for scenario in SCENARIOS:
        assert set(scenario.servers) <= set(SERVERS)


def test_a_verdict_says_the_number_and_the_limit_with_their_unit() -> None:
    assert str(Verdict("CPU", at_most(6), 7.361)) == "CPU: 7.36×, at most 6×"  # noqa: RUF001
    assert str(Verdict("memory", at_most(150, "MiB"), 97.34)) == "memory: 97.3 MiB, at most 150 MiB"
    assert str(Verdict("rate", at_least(40), 1234.5)) == "rate: 1,234×, at least 40×"  # noqa: RUF001
    assert str(Verdict("imports", at_most(0, ""), None)) == "imports: at most 0"
    assert str(Verdict("hundred", at_most(100, "%"), 100.0)) == "hundred: 100 %, at most 100 %"


def test_medians_are_of_one_server_and_load_each_and_ignore_one_bad_round() -> None:
    rounds = [measured("a", "x", 10), measured("a", "x", 900), measured("a", "x", 12)]
    assert [one.cpu_us for one in medians([*rounds, measured("b", "x", 5)])] == [12, 5]
