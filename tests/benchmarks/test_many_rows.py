"""Rows a second are measured of real packages, and judged for every model with a budget."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from benchmarks.budgets import at_least
from benchmarks.harness import BenchFailed
from benchmarks.sections import Effort
from sklearn.ensemble import RandomForestClassifier

from benchmarks import many_rows


@pytest.mark.slow
def test_a_quick_run_measures_some_models_and_knows_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forest() -> RandomForestClassifier:
        return RandomForestClassifier(20, max_depth=6, random_state=0)

    quick = many_rows.Trees("quick", forest, at_least(1, "rows/s"), quick=True, over=at_least(1e9))
    slow = many_rows.Trees("slow", forest, at_least(1, "rows/s"))
    monkeypatch.setattr(many_rows, "MODELS", (quick, slow))
    section = many_rows.many_rows(Effort(1, 1, (1,), True, tmp_path, lambda _: None))
    (row,) = section.rows
    assert row[0] == "quick"
    assert len(row) == len(section.columns)
    words = [verdict.word for verdict in section.verdicts]
    assert words == ["held", "missed", "not measured", "not measured"]
    rates = section.data[0]["rates"]
    assert section.verdicts[0].measured == rates["bulk"]
    assert section.verdicts[1].measured == rates["bulk"] / rates["ONNX Runtime"]


def test_a_way_that_answers_otherwise_stops_the_run() -> None:
    right = ([1, 0], [[0.2, 0.8], [0.9, 0.1]])
    told = dict.fromkeys((many_rows.FRAMEWORK, many_rows.GRAPH, many_rows.BULK), right)
    many_rows._check("forest", _asked(told))
    for wrong in (([1, 1], right[1]), (right[0], [[0.2, 0.8], [0.9, 0.11]])):
        with pytest.raises(BenchFailed, match="bulk gives other answers"):
            many_rows._check("forest", _asked({**told, many_rows.BULK: wrong}))


def _asked(told: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    return {way: functools.partial(tuple, answers) for way, answers in told.items()}
