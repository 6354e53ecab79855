"""A real Prometheus watches a real server: panels have data, rules hold, alerts arrive."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from foretell.codecs import messages
from tests.deploy import expressions
from tests.deploy.daemons import RULES, Prometheus, alertmanager, prometheus, webhook
from tests.faulty import serving
from tests.stubs import stub

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("watching")]

ARRIVES_S = 60
METRIC = re.compile(r"\b(?:prediction|model|foretell|process)_[a-z_]+\b(?![=!:])")


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Somebody asks the server for right and wrong things, at both doors, all the time."""
    over = threading.Event()
    row = messages.message("prediction.PredictRequest")

    def ask() -> None:
        address = url.removeprefix("http://")
        with httpx.Client(base_url=url) as rest, grpc.insecure_channel(address) as channel:
            service = stub(channel, "prediction.PredictionService")
            while not over.is_set():
                rest.post("/predict", json={"x": 1, "y": 2})
                rest.post("/batch_predict", json={"instances": [[1, 2]] * 5})
                rest.post("/predict", json={"x": "no number"})
                service.Predict(row(features=[1, 2]))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, beside a server that is asked."""
    folder = tmp_path_factory.mktemp("watched")
    with (
        serving(folder) as served,
        prometheus(folder, [served.url]) as watcher,
        asking(served.url),
    ):
        yield watcher


@pytest.mark.parametrize(
    "query", expressions.of_the_dashboard().values(), ids=expressions.of_the_dashboard()
)
def test_each_panel_has_data(watcher: Prometheus, query: str) -> None:
    watcher.until_numbers(query)


@pytest.mark.parametrize("query", expressions.of_the_runbook())
def test_the_runbook_asks_what_prometheus_understands(watcher: Prometheus, query: str) -> None:
    watcher.ask(query)


def test_the_rules_record_numbers_and_nothing_is_wrong_with_them(watcher: Prometheus) -> None:
    for name in expressions.recorded():
        watcher.until_numbers(name)
    assert watcher.wrong_rules() == []


def test_all_that_is_asked_for_is_served(watcher: Prometheus) -> None:
    asked = [
        *expressions.of_the_dashboard().values(),
        *expressions.of_the_runbook(),
        *expressions.of_the_rules(),
    ]
    names = {name for query in asked for name in METRIC.findall(query)} - {"model_version"}
    assert "prediction_total" in names
    for name in names:
        watcher.until_numbers(name)
    for status in ("success", "error", "overloaded", "deadline_exceeded", "cancelled"):
        assert watcher.ask(f'prediction_total{{status="{status}"}}'), status


def test_nothing_is_told_of_a_server_that_is_well(watcher: Prometheus) -> None:
    watcher.until_numbers("job_model:prediction:increase1h >= 20")
    slow = "Foretell(Latency.*|QueueIsLong)"  # so it may be, where other tests take the CPU
    assert watcher.ask(f'ALERTS{{alertstate="firing", alertname!~"{slow}"}}') == []


def came(alerts: queue.Queue[dict[str, Any]], name: str, status: str) -> dict[str, Any]:
    """The first alert of that name and status that the webhook is sent."""
    while True:
        alert = alerts.get(timeout=ARRIVES_S)
        if (alert["labels"]["alertname"], alert["status"]) == (name, status):
            return alert


def test_alerts_arrive_at_a_webhook(tmp_path: Path) -> None:
    """With the rules as they are, but that nothing has to last for minutes."""
    at_once = tmp_path / "rules.yaml"
    at_once.write_text(re.sub(r"for: \w+", "for: 1s", RULES.read_text(encoding="utf-8")))
    with (
        webhook() as (to, alerts),
        alertmanager(tmp_path, to) as manager,
        serving(tmp_path) as served,
        prometheus(tmp_path, [served.url], rules=at_once, alertmanager=manager) as watcher,
    ):
        watcher.until_numbers('prediction_total{status="error"} == 0')
        served.fault.touch()
        for _ in range(40):
            assert httpx.post(f"{served.url}/predict", json={"x": 1, "y": 2}).status_code == 500
        alert = came(alerts, "ForetellErrorBudgetBurnsFast", "firing")
        assert alert["labels"]["model"] == "faulty"
        assert alert["annotations"]["summary"] == "faulty fails 100% of its calls"
        assert alert["annotations"]["runbook"].startswith("docs/runbook.md#")

        served.server.stop()
        alert = came(alerts, "ForetellDown", "firing")
        assert served.url.endswith(alert["labels"]["instance"])
