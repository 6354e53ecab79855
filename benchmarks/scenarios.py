"""A scenario is a model, the servers that serve it, and the loads each of them gets.

A new comparison is a row in SCENARIOS (and some in budgets.BUDGETS, and one in servers.SERVERS
when it needs another server); the harness and the report stay as they are.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
from examples.train_churn_synthetic import CUSTOMER, synthetic_customers, train
from sklearn.ensemble import GradientBoostingClassifier

from benchmarks import bodies
from benchmarks.budgets import GRPC_LOAD, TENSOR_LOADS, Metric
from benchmarks.loads import GRPC, GRPC_HEADERS, Load
from benchmarks.model_alone import TENSOR_BYTES
from benchmarks.servers import Site

ONE_ROW = "one-row"
CHANNEL_LOAD = "one row, 32 at once, one channel"
COMPARED = ("floor", "usual recipe", "foretell")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A column of a comparison: a server's `metric` over that of `of`, together, or under it."""

    title: str
    of: tuple[str, ...]
    metric: Metric
    way: Literal["over", "under"] = "over"


ROW_RATIOS = (
    Ratio("CPU, × floor", ("floor",), "cpu_us"),  # noqa: RUF001
    Ratio("usual recipe's CPU, × this", ("usual recipe",), "cpu_us", "under"),  # noqa: RUF001
)
BULK_RATIOS = (
    Ratio("CPU, × lower bound", ("lower bound",), "cpu_us"),  # noqa: RUF001
    Ratio("p50, × lower bound", ("lower bound",), "p50_ms"),  # noqa: RUF001
)
GRPC_RATIOS = (
    Ratio("CPU, × floor", ("floor",), "cpu_us"),  # noqa: RUF001
    Ratio("CPU, × Foretell over gRPC", ("foretell over gRPC",), "cpu_us"),  # noqa: RUF001
    Ratio("CPU, × Foretell over REST", ("foretell over REST",), "cpu_us"),  # noqa: RUF001
)
_SUM = ("echo", "model alone")
TENSOR_RATIOS = (
    Ratio("CPU, × echo + model", _SUM, "cpu_us"),  # noqa: RUF001
    Ratio("p50, × echo + model", _SUM, "p50_ms"),  # noqa: RUF001
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


def dense(folder: Path) -> Site:
    """The same, of which the sample says that all four inputs are real numbers."""
    site = linear(folder)
    sample = site.model_folder / "sample.csv"
    pd.read_csv(sample).astype(np.float64).to_csv(sample, index=False)
    return site


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


def one_row_both_ways(site: Site, _: Sequence[int], seconds: int) -> list[Load]:
    """The example customer over 32 connections of HTTP/1.1, or 4 of HTTP/2 with 8 calls each."""
    (over_http,) = one_row(site, [32], seconds)
    call = replace(
        over_http,
        name=GRPC_LOAD,
        path="/prediction.PredictionService/Predict",
        body=bodies.predict_message(list(CUSTOMER.values())),
        connections=4,
        streams=8,
        protocol=GRPC,
        headers=GRPC_HEADERS,
        read=bodies.predicted,
    )
    return [replace(over_http, name=GRPC_LOAD), call]


def _one_row_all_ways(site: Site, connections: Sequence[int], seconds: int) -> list[Load]:
    """The same, and 32 calls on one connection, each with a deadline, as gRPC's clients send."""
    over_http, call = one_row_both_ways(site, connections, seconds)
    headers = {**GRPC_HEADERS, "grpc-timeout": "5S", "grpc-accept-encoding": "identity,gzip"}
    channel = replace(call, name=CHANNEL_LOAD, connections=1, streams=32, headers=headers)
    return [over_http, call, channel]


def _tensors(site: Site, _: Sequence[int], seconds: int) -> list[Load]:
    """Customers in one tensor of 1 MiB, as the Open Inference Protocol has it."""
    customers, _labels = synthetic_customers(TENSOR_BYTES // 16, seed=9)
    matrix = customers.to_numpy(np.float32)
    sent = pd.DataFrame(matrix.astype(np.float64), columns=customers.columns)
    labels, probabilities = _answers(site.model_folder, sent)
    answer = {"prediction": labels, "probability": probabilities}
    over_rest, over_grpc = TENSOR_LOADS
    body, headers = bodies.tensor_body(matrix)
    return [
        Load(
            over_rest,
            bodies.INFER_PATH,
            body,
            1,
            seconds,
            answer,
            whole=True,
            headers=headers,
            read=bodies.inferred,
        ),
        Load(
            over_grpc,
            "/inference.GRPCInferenceService/ModelInfer",
            bodies.infer_message(matrix),
            1,
            seconds,
            answer,
            whole=True,
            protocol=GRPC,
            headers=GRPC_HEADERS,
            read=bodies.inferred_by_message,
        ),
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
    Scenario(
        "grpc",
        "One row over gRPC",
        "The gradient boosting model, one row a call, asked 32 times at once: by h2load with "
        "`prediction.PredictionService/Predict`, 8 calls on each of 4 connections, or by wrk with "
        "`/predict` over 32 connections (the floor, and Foretell over REST). The floor is nginx "
        "returning the bytes of the JSON answer. grpcio's own servers are "
        "`benchmarks/grpcio_server.py`, as grpcio's documentation writes them: the same messages, "
        "made from the published `prediction.proto`, and the same ONNX file. The echo is "
        "`benchmarks/echo.py`, which does nothing: what the server that Foretell runs on costs "
        "for a request of either protocol. One channel: all 32 calls on one connection, each with "
        "a deadline, as gRPC's own clients send them.",
        (
            "floor",
            "foretell over REST",
            "foretell over gRPC",
            "echo over REST",
            "echo over gRPC",
            "grpcio",
            "grpcio.aio",
        ),
        GRPC_RATIOS,
        boosted,
        _one_row_all_ways,
    ),
    Scenario(
        "tensors",
        "A tensor of 1 MiB",
        "65,536 rows of four numbers in one FP32 tensor, through the Open Inference Protocol: "
        "`/v2/models/churn/infer` with the binary tensor extension (sent by "
        "`benchmarks/one_by_one.py`), and `ModelInfer` (by h2load), one at a time. The answer is "
        "1.5 MiB of binary tensors. The model is the scaler and logistic regression: it costs "
        "least, so that the rest shows. The echo is `benchmarks/echo.py`: on the same server, it "
        "sends the request's bytes back. The model alone is one call of ONNX Runtime on a matrix "
        "that is ready (`benchmarks/model_alone.py`). The budget is judged by CPU per request, as "
        "for many rows: the median time beside it includes the client's own work on both sides.",
        ("foretell", "echo", "model alone"),
        TENSOR_RATIOS,
        dense,
        _tensors,
    ),
)
