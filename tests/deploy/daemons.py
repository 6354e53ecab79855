"""Prometheus and Alertmanager on free ports, and what answers Alertmanager: a webhook of ours."""

from __future__ import annotations

import json
import math
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.transports.batch.stores.servers import free_ports

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
START_S = 60.0


def command(name: str) -> str:
    """Where a program of Debian's packages is."""
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: make packages (as root)"
    return found


def until(holds: Callable[[], bool], told: Callable[[], object] = lambda: "") -> None:
    """Wait for something other processes do."""
    end = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < end, f"it never came to pass: {told()}"
        time.sleep(0.05)


class Prometheus:
    """A running Prometheus that scrapes and evaluates twice a second."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that answer a query now. Raises AssertionError when it is no query."""
        reply = httpx.get(f"{self._url}/api/v1/query", params={"query": query})
        assert reply.status_code == 200, (query, reply.text)
        told: dict[str, Any] = reply.json()["data"]
        series = told["result"]
        assert isinstance(series, list)
        return series if told["resultType"] == "vector" else [{"value": series}]

    def values(self, query: str) -> list[float]:
        return [float(one["value"][1]) for one in self.ask(query)]

    def until_numbers(self, query: str) -> None:
        """Until one of the series that answer the query has a number."""
        until(lambda: any(map(math.isfinite, self.values(query))), lambda: query)

    def wrong_rules(self) -> list[str]:
        """What went wrong in the last evaluation of each rule."""
        groups = httpx.get(f"{self._url}/api/v1/rules").json()["data"]["groups"]
        return [
            rule["lastError"]
            for group in groups
            for rule in group["rules"]
            if rule.get("lastError")
        ]


@contextmanager
def _running(arguments: Sequence[str], folder: Path, url: str) -> Iterator[str]:
    """A daemon, once it says that it is ready."""
    log = folder / f"{Path(arguments[0]).name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=file, cwd=folder)
    try:
        until(lambda: process.poll() is not None or _is_ready(url), log.read_text)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.kill()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def prometheus(
    folder: Path, targets: Sequence[str], *, rules: Path = RULES, alertmanager: str = ""
) -> Iterator[Prometheus]:
    """Scrapes `/metrics` of the servers at these URLs, as the job foretell."""
    config: dict[str, Any] = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "foretell",
                "static_configs": [{"targets": [_address(t) for t in targets]}],
            }
        ],
    }
    if alertmanager:
        to = [{"static_configs": [{"targets": [_address(alertmanager)]}]}]
        config["alerting"] = {"alertmanagers": to}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML, too
    (port,) = free_ports(1)
    arguments = [
        *(command("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with _running(arguments, folder, f"http://127.0.0.1:{port}") as url:
        yield Prometheus(url)


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Sends each alert to the webhook within a second."""
    route = {
        "receiver": "webhook",
        "group_by": ["alertname"],
        "group_wait": "0s",
        "group_interval": "1s",
    }
    receiver = {"name": "webhook", "webhook_configs": [{"url": webhook}]}
    config = {"route": route, "receivers": [receiver]}
    (folder / "alertmanager.yml").write_text(json.dumps(config))
    (port,) = free_ports(1)
    arguments = [
        *(command("prometheus-alertmanager"), "--config.file=alertmanager.yml"),
        *("--storage.path=alerts", f"--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=",
    ]
    with _running(arguments, folder, f"http://127.0.0.1:{port}") as url:
        yield url


@contextmanager
def webhook() -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    """The URL of a server that takes alerts, and those that came."""
    came: queue.Queue[dict[str, Any]] = queue.Queue()

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for alert in json.loads(body)["alerts"]:
                came.put(alert)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: it would stand among the tests' own lines."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", came
        finally:
            server.shutdown()
            thread.join()


def _address(url: str) -> str:
    return url.removeprefix("http://").rstrip("/")
