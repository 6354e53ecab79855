"""Predictions as tables, and what is said when a library for them is missing."""

import subprocess
import sys

import numpy as np
import pytest

import foretell
from foretell.client.predictions import Predictions
from foretell.errors import MissingExtra

ANSWER = Predictions(
    "m",
    "1",
    {
        "prediction": np.array(["a", None], dtype=object),
        "probability": np.array([[0.1, 0.9], [0.5, 0.5]]),
    },
)


def test_what_is_asked_for_most_has_names() -> None:
    assert ANSWER.predictions.tolist() == ["a", None]
    assert ANSWER.probabilities is ANSWER.outputs["probability"]
    assert len(ANSWER) == 2
    only = Predictions("m", "1", {"score": np.array([1.0])})
    assert (only.predictions.tolist(), only.probabilities) == ([1.0], None)
    with pytest.raises(KeyError, match=r"take \.outputs"):
        _ = Predictions("m", "1", {"a": np.zeros(1), "b": np.zeros(1)}).predictions


def test_tables_hold_the_same_values() -> None:
    frame = ANSWER.to_pandas()
    assert list(frame) == ["prediction", "probability_0", "probability_1"]
    assert frame["probability_1"].tolist() == [0.9, 0.5]
    table = ANSWER.to_arrow()
    assert table.to_pydict() == {
        "prediction": ["a", None],
        "probability": [[0.1, 0.9], [0.5, 0.5]],
    }


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "pyarrow", "httpx", "grpc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="pip install pandas"):
        ANSWER.to_pandas()
    with pytest.raises(MissingExtra, match="pip install pyarrow"):
        ANSWER.to_arrow()
    for url in ("http://a", "grpc://a"):
        client = foretell.Client(url)
        with pytest.raises(MissingExtra, match=r"pip install 'foretell\[client\]'"):
            client.signature("m")


def test_importing_the_clients_imports_no_library_of_theirs() -> None:
    code = (
        "import sys, foretell; foretell.Client, foretell.AsyncClient; "
        "print([n for n in ('httpx', 'grpc', 'pandas', 'pyarrow') if n in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
