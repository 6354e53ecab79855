"""A scenario is a model, the servers that serve it, and the loads each of them gets.

A new comparison is a row in SCENARIOS (and some in budgets.BUDGETS, and one in servers.SERVERS
when it needs another server); the harness and the report stay as they are.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import pandas as pd
from examples.train_churn_synthetic import CUSTOMER, synthetic_customers, train
from sklearn.ensemble import GradientBoostingClassifier

from benchmarks.budgets import Metric
from benchmarks.harness import Load
from benchmarks.servers import Site

ONE_ROW = "one-row"
COMPARED = ("floor", "usual recipe", "foretell")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A column of a comparison: a server's `metric` over `of`'s, or the other way round."""

    title: str
    of: str
    metric: Metric
    way: Literal["over", "under"] = "over"


ROW_RATIOS = (
    Ratio("CPU, × floor", "floor", "cpu_us"),  # noqa: RUF001
    Ratio("usual recipe's CPU, × this", "usual recipe", "cpu_us", "under"),  # noqa: RUF001
)
BULK_RATIOS = (
    Ratio("CPU, × lower bound", "lower bound", "cpu_us"),  # noqa: RUF001
    Ratio("p50, × lower bound", "lower bound", "p50_ms"),  # noqa: RUF001
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` makes the model in a folder; `loads` is asked with connections and seconds."""

    name: str
    title: str
    text: str
    servers: tuple[str, ...]
    ratios: tuple[Ratio, ...]
    prepare: Callable[[Path], Site]
    loads: Callable[[Site, Sequence[int], int], list[Load]]


def boosted(folder: Path) -> Site:
    """The synthetic churn data under StandardScaler and gradient boosting."""
    model_folder = folder / "model"
    train(model_folder)
    customers, left = synthetic_customers(5_000, seed=8)
    scaler = joblib.load(model_folder / "scaler.pkl")
    model = GradientBoostingClassifier(random_state=0).fit(scaler.transform(customers), left)
    joblib.dump(model, model_folder / "model.pkl")
    return _site(folder)


def linear(folder: Path) -> Site:
    """The synthetic churn example as it is: StandardScaler and logistic regression."""
    train(folder / "model")
    return _site(folder)


def _site(folder: Path) -> Site:
    labels, probabilities = _answers(folder / "model", pd.DataFrame([CUSTOMER]))
    answer = {"prediction": labels[0], "probability": probabilities[0], "model_version": "1.0.0"}
    return Site(folder, folder / "model", answer)


def _answers(model_folder: Path, customers: pd.DataFrame) -> tuple[list[int], list[list[float]]]:
    """The right answers: scikit-learn's own."""
    scaler, model = (joblib.load(model_folder / name) for name in ("scaler.pkl", "model.pkl"))
    scaled = scaler.transform(customers)
    return model.predict(scaled).tolist(), model.predict_proba(scaled).tolist()


def one_row(site: Site, connections: Sequence[int], seconds: int) -> list[Load]:
    """The example customer, over so many connections at once."""
    body = json.dumps(CUSTOMER).encode()
    return [
        Load(f"one row, {n} connection{'s' * (n > 1)}", "/predict", body, n, seconds, site.answer)
        for n in connections
    ]


def _one_row_shortly(site: Site, connections: Sequence[int], seconds: int) -> list[Load]:
    return one_row(site, [n for n in connections if n in (1, 32)], seconds)


def _many_rows(site: Site, _: Sequence[int], seconds: int) -> list[Load]:
    """Requests for many rows at 1 connection, by name and in order."""
    customers, _labels = synthetic_customers(100_000, seed=9)
    labels, probabilities = _answers(site.model_folder, customers)
    objects: list[dict[str, Any]] = customers.to_dict("records")

    def load(name: str, rows: list[Any]) -> Load:
        n = len(rows)
        answer = {
            "predictions": labels[:n],
            "probabilities": probabilities[:n],
            "model_version": "1.0.0",
        }
        body = json.dumps({"instances": rows}).encode()
        return Load(name, "/batch_predict", body, 1, seconds, answer, whole=True)

    return [
        load("1,000 objects", objects[:1_000]),
        load("1,000 arrays", [list(row.values()) for row in objects[:1_000]]),
        load("100,000 objects", objects),
    ]


SCENARIOS = (
    Scenario(
        ONE_ROW,
        "One row a request",
        "The model is a StandardScaler and a gradient boosting classifier with scikit-learn's "
        "defaults (100 trees) on the four features of the synthetic churn example; one row a "
        "request, JSON in and out. The floor is nginx returning the same bytes from memory. The "
        "usual recipe is `benchmarks/usual_recipe.py`: FastAPI, pydantic, pandas and "
        "scikit-learn under uvicorn with uvloop and httptools.",
        COMPARED,
        ROW_RATIOS,
        boosted,
        one_row,
    ),
    Scenario(
        "one-row-linear",
        "One row a request, with a cheaper model",
        "The same with logistic regression in place of gradient boosting. The model costs "
        "scikit-learn least here, so this is the hardest comparison with the usual recipe. The "
        "budgets are those of gradient boosting.",
        COMPARED,
        ROW_RATIOS,
        linear,
        _one_row_shortly,
    ),
    Scenario(
        "many-rows",
        "Many rows a request",
        "The gradient boosting model, `/batch_predict`, one connection of "
        "`benchmarks/one_by_one.py`, which waits for every answer. The lower bound is "
        "`benchmarks/lower_bound.py`, in one process on the same core, in turn with the server: "
        "decode the body with msgspec's typed decoder, make a matrix of its rows, run the same "
        "ONNX file once, encode the answer. The budget is judged by CPU per request: it counts all "
        "that the server does, also what only every hundredth request pays (garbage collection), "
        "and a busy neighbour changes it least. The median time over loopback beside it would show "
        "waiting, which costs no CPU.",
        ("foretell", "lower bound"),
        BULK_RATIOS,
        boosted,
        _many_rows,
    ),
)
