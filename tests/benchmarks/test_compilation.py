"""What compiling saves is measured of real packages, and judged where a budget says so."""

from pathlib import Path

import pytest
from benchmarks.budgets import at_least
from benchmarks.modelling import MODELS, Model, cancer
from benchmarks.sections import Effort
from sklearn.tree import DecisionTreeClassifier

from benchmarks import compilation


@pytest.mark.slow
def test_a_quick_run_measures_some_models_and_says_of_which_budgets_it_knows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tree() -> DecisionTreeClassifier:
        return DecisionTreeClassifier(max_depth=2, random_state=0)

    quick = Model("quick", tree, cancer, at_least(2), quick=True)
    monkeypatch.setattr(compilation, "MODELS", (quick, Model("slow", tree, cancer, at_least(2))))
    section = compilation.compilation(Effort(1, 1, (1,), True, tmp_path, lambda _: None))
    (row,) = section.rows
    assert row[0] == "quick"
    assert len(row) == len(section.columns)
    assert [verdict.word for verdict in section.verdicts] == ["held", "not measured"]
    (kept,) = section.data
    seconds = kept["seconds"][1]
    assert section.verdicts[0].measured == seconds["original"] / seconds["compiled"]


def test_a_quick_run_has_models_with_budgets_and_every_name_once() -> None:
    assert any(model.quick and model.limit for model in MODELS)
    assert len({model.name for model in MODELS}) == len(MODELS)
