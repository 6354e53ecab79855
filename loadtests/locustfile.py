"""A load test for Locust: users of REST and of gRPC, who ask for one row, for many, for health.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000

Rows are copies of the example that the server tells of its model. A user waits for an answer
before it asks again (a closed loop), so a server that stalls is asked less meanwhile; the
scripts of k6 keep to a rate. Locust ends with 1 when a request failed or when none was answered.
"""

import json
import logging
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
import grpc
import grpc.experimental.gevent
from locust import FastHttpUser, User, events, tag, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from foretell.codecs import messages

ANSWERS_WITHIN_S = 10.0
_log = logging.getLogger("foretell.loadtest")

grpc.experimental.gevent.init_gevent()  # else a call would block all users of the process


class Known(NamedTuple):
    """What a server tells of a model."""

    model: str
    example: Any


_known: dict[str, Known] = {}  # by host


def add_arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--model", default="", help="the model to ask; else the server's default")
    parser.add_argument("--rows", type=int, default=100, help="rows of a batch")


def learn(environment: Environment, **_: object) -> None:
    """Ask the server for an example of its rows; without one there is no test."""
    host = environment.host or ""
    try:
        model = _options(environment).model or _get(f"{host}/models")["default_model"]
        example = _get(f"{host}/models/{model}")["example"] if model else None
    except (OSError, ValueError, LookupError) as error:
        sys.exit(f"no example of a row from {host or 'no host: name it with --host'}: {error}")
    if model is None:
        sys.exit(f"{host} has no default model: name one with --model")
    _known[host] = Known(model, example)


def start_the_clock(environment: Environment, **_: object) -> None:
    """Let a run last as long as it should: gevent's clock stood still while this was imported."""
    gevent.get_hub().loop.update_now()


def judge(environment: Environment, **_: object) -> None:
    """Nothing answered is a failure, too, which Locust would call a success."""
    if isinstance(environment.runner, WorkerRunner):
        return  # its figures went to the master, which judges
    total = environment.stats.total
    if total.num_requests == total.num_failures:
        _log.error("no request was answered")
        environment.process_exit_code = 1


def _options(environment: Environment) -> Any:
    return environment.parsed_options


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=ANSWERS_WITHIN_S) as reply:
        return json.load(reply)


class RestUser(FastHttpUser):
    """Asks over HTTP/1.1, as a web application does."""

    weight = 3
    network_timeout = ANSWERS_WITHIN_S
    connection_timeout = ANSWERS_WITHIN_S

    def on_start(self) -> None:
        known = _known[self.environment.host or ""]
        many = [known.example] * _options(self.environment).rows
        self.path = f"/models/{known.model}"
        self.one = json.dumps(known.example)
        self.many = json.dumps({"instances": many})
        self.row_count = len(many)

    def ask(self, call: str, body: str, is_right: Callable[[Any], bool]) -> None:
        headers = {"Content-Type": "application/json"}
        with self.client.post(
            f"{self.path}/{call}", data=body, headers=headers, name=call, catch_response=True
        ) as reply:
            if reply.status_code != 200:
                reply.failure(f"{reply.status_code}: {(reply.text or '')[:200]}")
            elif not is_right(reply.json()):
                reply.failure("an answer of another shape")

    @tag("single")
    @task(8)
    def predict(self) -> None:
        self.ask("predict", self.one, lambda told: "prediction" in told)

    @tag("batch")
    @task(1)
    def batch_predict(self) -> None:
        count = self.row_count
        self.ask("batch_predict", self.many, lambda told: len(told["predictions"]) == count)

    @tag("health")
    @task(1)
    def health(self) -> None:
        self.client.get("/health/ready", name="health")


class GrpcUser(User):
    """Asks prediction.PredictionService, on the same port: models whose inputs are numbers."""

    weight = 1

    def on_start(self) -> None:
        known = _known[self.environment.host or ""]
        features = list(known.example.values())
        parts = urlsplit(self.environment.host or "")
        secure = parts.scheme == "https"
        self.metadata = [("model-name", known.model)]
        self.channel = (
            grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials())
            if secure
            else grpc.insecure_channel(parts.netloc)
        )
        row = messages.message("prediction.PredictRequest")(features=features)
        rows = [row] * _options(self.environment).rows
        self.row_count = len(rows)
        self.one = row.SerializeToString()
        many = messages.message("prediction.BatchPredictRequest")(instances=rows)
        self.many = many.SerializeToString()
        self.health_request = messages.message("prediction.HealthRequest")().SerializeToString()

    def on_stop(self) -> None:
        self.channel.close()

    def ask(self, call: str, body: bytes, is_right: Callable[[Any], bool]) -> None:
        answer_of = messages.message(f"prediction.{_ANSWERS[call]}").FromString
        method: Any = self.channel.unary_unary(f"/prediction.PredictionService/{call}")
        began = time.perf_counter()
        answer = b""
        failure: Exception | None = None
        try:
            answer = method(body, timeout=ANSWERS_WITHIN_S, metadata=self.metadata)
            if not is_right(answer_of(answer)):
                failure = ValueError("an answer of another shape")
        except grpc.RpcError as error:
            failure = error
        self.environment.events.request.fire(
            request_type="gRPC",
            name=call,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=len(answer),
            exception=failure,
            context={},
        )

    @tag("single")
    @task(8)
    def predict(self) -> None:
        self.ask("Predict", self.one, lambda told: bool(told.model_version))

    @tag("batch")
    @task(1)
    def batch_predict(self) -> None:
        count = self.row_count
        self.ask("BatchPredict", self.many, lambda told: len(told.predictions) == count)

    @tag("health")
    @task(1)
    def health(self) -> None:
        self.ask("HealthCheck", self.health_request, lambda told: told.model_loaded)


events.init_command_line_parser.add_listener(add_arguments)
events.init.add_listener(start_the_clock)
events.test_start.add_listener(learn)
events.quitting.add_listener(judge)

_ANSWERS = {
    "Predict": "PredictResponse",
    "BatchPredict": "BatchPredictResponse",
    "HealthCheck": "HealthResponse",
}
