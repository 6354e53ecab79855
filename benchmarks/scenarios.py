"""A scenario is a model, the servers that serve it, and the loads each of them gets.

A new benchmark is a row in SCENARIOS (and one in budgets.BUDGETS, and one in servers.SERVERS
when it needs another server); the harness and the report stay as they are.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import pandas as pd
from examples.train_churn_synthetic import CUSTOMER, train

from benchmarks.harness import Load
from benchmarks.servers import Site


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` makes the model in a folder; `loads` is asked with connections and seconds."""

    name: str
    servers: tuple[str, ...]
    prepare: Callable[[Path], Site]
    loads: Callable[[Site, Sequence[int], int], list[Load]]


def _churn(folder: Path) -> Site:
    """The synthetic churn files; the right answer comes from scikit-learn itself."""
    model_folder = folder / "model"
    train(model_folder)
    scaler, model = (joblib.load(model_folder / name) for name in ("scaler.pkl", "model.pkl"))
    scaled = scaler.transform(pd.DataFrame([CUSTOMER]))
    answer = {
        "prediction": int(model.predict(scaled)[0]),
        "probability": model.predict_proba(scaled)[0].tolist(),
        "model_version": "1.0.0",
    }
    return Site(folder, model_folder, answer)


def _one_row(site: Site, connections: Sequence[int], seconds: int) -> list[Load]:
    body = json.dumps(CUSTOMER).encode()
    return [
        Load(f"one row, {n} connection{'s' * (n > 1)}", "/predict", body, n, seconds, site.answer)
        for n in connections
    ]


SCENARIOS = (Scenario("one row", ("floor", "usual recipe", "foretell"), _churn, _one_row),)
