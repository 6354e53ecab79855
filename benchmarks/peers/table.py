"""A peer is another model server: its environment, how it is started, asked and understood.

Every peer runs one worker with one thread for the model, without access logs, and batches
requests where its documentation recommends that, with the values shown there. A new peer is a
row in PEERS, a file in apps/ and one in requirements/.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
from examples.train_churn_synthetic import CUSTOMER
from sklearn.pipeline import make_pipeline

from benchmarks.harness import Server
from benchmarks.peers.apps import churn
from benchmarks.servers import ROOT, free_port

FORETELL = "Foretell"
ONNX, SKLEARN = "ONNX", "scikit-learn"
KINDS = (ONNX, SKLEARN)
CUSTOMER_BODY = json.dumps(CUSTOMER).encode()
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


def server_name(name: str, kind: str) -> str:
    """What measurements call the server `name` with a model of `kind`."""
    return f"{name}, {kind}"


def load_name(connections: int) -> str:
    """What measurements call the load of one-row requests."""
    return f"one row, {connections} connection{'s' * (connections > 1)}"


Answer = tuple[int, list[float]]
"""A label, and the probability of each class."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a peer is started with: its programs, a folder of its own, the model and a port."""

    programs: Path
    folder: Path
    model: Path
    port: int

    @property
    def compiled(self) -> bool:
        """Whether the model is the ONNX file."""
        return self.model.suffix == ".onnx"


def plain_answer(told: Any) -> Answer:
    """The answer as Foretell and most of the applications here give it."""
    return told["prediction"], told["probability"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of PEERS; `argv` gets a Place, `read` the JSON that came back."""

    name: str
    environment: str
    packages: tuple[str, ...]
    argv: Callable[[Place], tuple[str, ...]]
    how: str
    ready: str = "/health"
    path: str = "/predict"
    body: bytes = CUSTOMER_BODY
    read: Callable[[Any], Answer] = plain_answer
    env: Callable[[Place], Mapping[str, str]] = field(default=lambda place: {})
    python: str | None = None

    def server(self, kind: str, programs: Path, folder: Path, model: Path) -> Server:
        """How it serves `model`; it runs in `folder` and sees the checkout's modules."""
        place = Place(programs, folder, model, free_port())
        env = {
            "MODEL": str(model),
            "PORT": str(place.port),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder),  # what it writes there ends with the run
            "DO_NOT_TRACK": "1",
            **ONE_THREAD,
            **self.env(place),
        }
        argv = ("env", "--chdir", str(folder), *self.argv(place))
        ready = f"http://127.0.0.1:{place.port}{self.ready}"
        return Server(server_name(self.name, kind), argv, ready, env)


def _app(name: str, *told: str) -> Callable[[Place], tuple[str, ...]]:
    """apps/NAME_app.py, run by the peer's Python."""
    return lambda place: (
        str(place.programs / "python"),
        "-m",
        f"benchmarks.peers.apps.{name}_app",
        *told,
    )


def _mosec(place: Place) -> tuple[str, ...]:
    told = ("--address", "127.0.0.1", "--port", str(place.port), "--log-level", "warning")
    return _app("mosec", *told, "--path", str(place.folder / "sockets"))(place)


def _bentoml(place: Place) -> tuple[str, ...]:
    app = "benchmarks.peers.apps.bentoml_app:Churn"
    told = ("--host", "127.0.0.1", "--port", str(place.port))
    return (str(place.programs / "bentoml"), "serve", app, *told)


def _mlserver(place: Place) -> tuple[str, ...]:
    settings = {
        "debug": False,  # debug turns access logs on
        "parallel_workers": 0,  # the model runs in the server's process: no hop
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
    }
    model: dict[str, Any] = {"name": "churn", "max_batch_size": 32, "max_batch_time": 0.01}
    if place.compiled:
        model["implementation"] = "benchmarks.peers.apps.mlserver_app.OnnxModel"
    else:
        joblib.dump(make_pipeline(*churn.plain(place.model)), place.folder / "model.joblib")
        model["implementation"] = "mlserver_sklearn.SKLearnModel"
        model["parameters"] = {"uri": "./model.joblib"}
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return (str(place.programs / "mlserver"), "start", str(place.folder))


def _v2_body(**more: Any) -> bytes:
    """One row as the Open Inference Protocol's JSON has it."""
    rows = {"name": "rows", "shape": [1, 4], "datatype": "FP64", "data": churn.row(CUSTOMER)}
    return json.dumps({"inputs": [rows], **more}).encode()


def _v2_answer(told: Any) -> Answer:
    labels, probabilities = told["outputs"]
    return labels["data"][0], probabilities["data"]


PEERS = (
    Peer(
        "bare FastAPI",
        "bare",
        ("fastapi", "uvicorn", "uvloop", "httptools"),
        _app("bare"),
        "one FastAPI route that reads the raw body; uvicorn with uvloop and httptools; no batching",
    ),
    Peer(
        "mosec",
        "mosec",
        ("mosec",),
        _mosec,
        "JSON; max_batch_size 32, max_wait_time 10 ms (its default)",
        ready="/",
    ),
    Peer(
        "LitServe",
        "litserve",
        ("litserve",),
        _app("litserve"),
        "JSON; one API server; max_batch_size 32, batch_timeout 10 ms",
    ),
    Peer(
        "BentoML",
        "bentoml",
        ("bentoml",),
        _bentoml,
        "JSON; a batchable API on a numpy array; max_batch_size 32, max_latency_ms 1000, and its "
        "own choice of the wait",
        ready="/readyz",
        body=json.dumps({"rows": [churn.row(CUSTOMER)]}).encode(),
        read=lambda told: plain_answer(told[0]),
        env=lambda place: {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "MLServer",
        "mlserver",
        ("mlserver", "mlserver-sklearn"),
        _mlserver,
        "the Open Inference Protocol's JSON; parallel_workers 0; max_batch_size 32, "
        "max_batch_time 10 ms; its own scikit-learn runtime, a custom one for ONNX",
        ready="/v2/models/churn/ready",
        path="/v2/models/churn/infer",
        body=_v2_body(outputs=[{"name": "predict"}, {"name": "predict_proba"}]),
        read=_v2_answer,
    ),
    Peer(
        "Ray Serve",
        "ray",
        ("ray",),
        _app("ray"),
        "JSON; one replica; @serve.batch with max_batch_size 32, batch_wait_timeout_s 0.01 "
        "(its default)",
        ready="/-/healthz",
        env=lambda place: {"RAY_FOLDER": str(place.folder), "RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Peer(
        "Triton",
        "pytriton",
        ("nvidia-pytriton",),
        _app("pytriton"),
        "through PyTriton: the Open Inference Protocol's JSON; the model is a Python function, as "
        "the wheel has no ONNX backend; DynamicBatcher with max_batch_size 32, 100 µs delay",
        ready="/v2/models/churn/ready",
        path="/v2/models/churn/infer",
        body=_v2_body(),
        read=_v2_answer,
        env=lambda place: {"TRITON_FOLDER": str(place.folder / "workspace")},
        # Its Python backend dies with the standard library of some builds of Python 3.11
        # ("'_thread.RLock' object has no attribute '_recursion_count'"); Debian 12's works.
        python="/usr/bin/python3.11",
    ),
)
