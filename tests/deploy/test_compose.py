"""The picture of deploy/compose.yaml comes up, and what one server leaves another one answers.

No registry can be reached by the tests: the images of Envoy, Prometheus and Redis are made of the
programs that are here, under the names that compose.yaml has for them.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import envoy
import grpc
import httpx
import pytest
import yaml

import foretell
from foretell.app.gateway import reading, running
from foretell.codecs import messages
from tests import models
from tests.deploy.daemons import command, until
from tests.deploy.podman import BASE_IMAGE, ROOT, Podman
from tests.stubs import stub

COMPOSE = ROOT / "deploy" / "compose.yaml"
ENVOY = ROOT / "deploy" / "envoy.json"
ENVOY_PROGRAM = Path(envoy.__file__).parent / "_bin" / "envoy"
LOADED = "flowers 1.0.0 is loaded"
CLIENTS = 20
CALLERS = 8


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_balancer_is_a_gateway() -> None:
    """Its file is what the gateway makes of its settings, and Envoy takes it without a warning."""
    chosen = reading.read(ROOT / "deploy" / "gateway.toml", {})
    assert ENVOY.read_text() == running.rendered(chosen)
    words = [str(ENVOY_PROGRAM), "--mode", "validate", "-c", str(ENVOY), "--log-level", "warning"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), "a deprecated field, or another warning"


@pytest.mark.slow
def test_prometheus_takes_its_configuration() -> None:
    path = ROOT / "deploy" / "prometheus" / "prometheus.yaml"
    words = [command("promtool"), "check", "config", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(services()))
def test_every_service_is_hardened(name: str) -> None:
    found = services()[name]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "restart", "image"} <= set(found)
    assert not found["image"].endswith(":latest")
    for port in found.get("ports", ()):
        assert port.startswith("${FORETELL_ADDRESS:-127.0.0.1}:")


class Composed:
    """What is up."""

    def __init__(self, podman: Podman, project: str, environ: dict[str, str]) -> None:
        self._podman = podman
        self._project = project
        self._environ = {**podman.full_environ, **environ}
        self.address = f"127.0.0.1:{environ['FORETELL_PORT']}"
        self.url = f"http://{self.address}"
        self.prometheus = f"http://127.0.0.1:{environ['PROMETHEUS_PORT']}"

    def __call__(self, *words: str) -> str:
        """What `podman-compose …` prints."""
        told = ["-f", str(COMPOSE), "-p", self._project, *words]
        done = subprocess.run(
            [sys.executable, "-m", "podman_compose", *told],
            capture_output=True,
            text=True,
            check=False,
            env=self._environ,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def container(self, service: str) -> str:
        """The name of a service's container."""
        label = f"label=com.docker.compose.service={service}"
        names = self._podman("ps", "--all", "--format", "{{.Names}}", "--filter", label)
        (name,) = names.split()
        return name

    def logs(self) -> str:
        return "".join(self._podman.logs(self.container(name)) for name in services())

    def ready(self) -> int:
        """How many servers the balancer takes for ready, as Prometheus saw it last."""
        name = "envoy_cluster_membership_healthy"
        return int(self.value(f'sum({name}{{envoy_cluster_name="default"}})') or 0)

    def value(self, query: str) -> float | None:
        """The one number that answers a query of Prometheus."""
        try:
            reply = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query})
        except httpx.TransportError:
            return None
        found = reply.json()["data"]["result"] if reply.status_code == 200 else []
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def composed(
    podman: Podman, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    _stand_in(podman, services()["balancer"]["image"], ENVOY_PROGRAM)
    _stand_in(podman, services()["prometheus"]["image"], Path(command("prometheus")), "prometheus")
    _stand_in(podman, services()["redis"]["image"], Path(command("redis-server")))
    ports = dict(zip(("FORETELL_PORT", "PROMETHEUS_PORT"), map(str, _free_ports()), strict=True))
    made = Composed(podman, "foretell-test", {"FORETELL_IMAGE": image, **ports})
    made("up", "-d")
    try:
        until(lambda: made.ready() == 2, made.logs)
        yield made
    finally:
        made("down", "-v")


def _free_ports() -> list[int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        return [one.getsockname()[1], other.getsockname()[1]]


def _stand_in(podman: Podman, image: str, program: Path, entry: str = "") -> None:
    """An image under that name which runs a program of this machine."""
    made = podman("buildah", "from", BASE_IMAGE)
    at = Path(podman("buildah", "mount", made))
    shutil.copy(program.resolve(), at / "usr" / "bin" / program.name)
    for library in _libraries(program):
        inside = at / library.relative_to("/")
        if not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library.resolve(), inside)
    (at / "prometheus").mkdir()
    os.chown(at / "prometheus", 65534, 65534)
    podman("buildah", "umount", made)
    if entry:
        podman("buildah", "config", "--user", "65534", "--entrypoint", f'["{entry}"]', made)
    podman("buildah", "commit", "--quiet", "--rm", made, image)


def _libraries(program: Path) -> list[Path]:
    """The shared libraries that a program is linked to."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    words = [line.split("=>")[-1].split()[0] for line in done.stdout.splitlines() if "/" in line]
    return [Path(word) for word in words if word.startswith("/")]


def _rest(composed: Composed, stop: threading.Event) -> int:
    """Ask over one connection until `stop`; how many answers there were. One that fails raises."""
    body = json.dumps({"instances": models.numbers()[0].iloc[:2].to_numpy().tolist()})
    link = http.client.HTTPConnection(composed.address, timeout=30)
    count = 0
    while not stop.is_set():
        link.request("POST", "/batch_predict", body, {"content-type": "application/json"})
        reply = link.getresponse()
        told = reply.read()
        assert reply.status == 200, told
        assert len(json.loads(told)["predictions"]) == 2
        count += 1
    link.close()
    return count


def _grpc(composed: Composed, stop: threading.Event) -> int:
    """The same over gRPC, without retries of its own."""
    rows = models.numbers()[0].iloc[:2].to_numpy().tolist()
    request = messages.message("prediction.BatchPredictRequest")(
        instances=[{"features": row} for row in rows]
    )
    count = 0
    options = [("grpc.enable_retries", 0)]
    with grpc.insecure_channel(composed.address, options) as channel:
        ask = stub(channel, "prediction.PredictionService").BatchPredict
        while not stop.is_set():
            assert len(ask(request, timeout=30).predictions) == 2
            count += 1
    return count


def asked_meanwhile(composed: Composed, event: Callable[[], None]) -> None:
    """Clients at full speed while something happens: not one of their calls fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(CLIENTS + CALLERS) as pool:
        asking = [pool.submit(_rest, composed, stop) for _ in range(CLIENTS)]
        asking += [pool.submit(_grpc, composed, stop) for _ in range(CALLERS)]
        try:
            time.sleep(1)  # of load before it
            event()
            time.sleep(2)  # and after
        finally:
            stop.set()
    assert all(one.result() > 0 for one in asking)


@pytest.mark.slow
@pytest.mark.xdist_group("podman")
class TestUp:
    def test_both_doors_answer_through_the_balancer(self, composed: Composed) -> None:
        rows = models.numbers()[0].iloc[:20]
        with foretell.Client(composed.url) as rest:
            expected = rest.predict("flowers", rows)
        with foretell.Client(f"grpc://{composed.address}") as grpc_client:
            found = grpc_client.predict("flowers", rows)
        assert list(found.predictions) == list(expected.predictions)
        body = {"features": rows.iloc[0].tolist()}
        told = httpx.post(f"{composed.url}/predict", json=body, headers={"x-request-id": "mine"})
        assert told.headers["x-request-id"] == "mine"

    def test_calls_of_one_channel_are_spread(self, composed: Composed) -> None:
        request = messages.message("prediction.PredictRequest")(
            features=models.numbers()[0].iloc[0].to_list()
        )
        with grpc.insecure_channel(composed.address) as channel:
            ask = stub(channel, "prediction.PredictionService").Predict
            for _ in range(40):
                ask(request)
        each = 'prediction_total{instance="server-%d:9090",status="success"}'
        until(lambda: all((composed.value(each % one) or 0) >= 15 for one in (1, 2)))

    def test_prometheus_watches_everything_by_our_rules(self, composed: Composed) -> None:
        until(lambda: composed.value("sum(up)") == 3, composed.logs)
        told = httpx.get(f"{composed.prometheus}/api/v1/rules").json()["data"]["groups"]
        names = {rule["name"] for group in told for rule in group["rules"]}
        assert "ForetellDown" in names
        assert composed.value("count(foretell_build_info)") == 2

    def test_redis_is_a_cache(self, composed: Composed, podman: Podman) -> None:
        script = "import socket; s = socket.create_connection(('redis', 6379), 5); "
        script += "s.sendall(b'CONFIG GET maxmemory-policy\\r\\n'); print(s.recv(200))"
        name = composed.container("server-1")
        told = podman("exec", name, "/opt/foretell/bin/python", "-c", script)
        assert "allkeys-lru" in told

    def test_nothing_but_metrics_of_the_balancers_administration(
        self, composed: Composed, podman: Podman
    ) -> None:
        script = "import http.client as h, sys; c = h.HTTPConnection('balancer', 9902); "
        script += "c.request('POST', '/quitquitquit'); print(c.getresponse().status)"
        name = composed.container("server-1")
        assert podman("exec", name, "/opt/foretell/bin/python", "-c", script) == "404"

    @pytest.mark.parametrize("how", ["stop", "kill"])
    def test_a_server_that_goes_loses_no_call(
        self, composed: Composed, podman: Podman, how: str
    ) -> None:
        """Predictions change nothing, so all of them are safe to ask of the other server."""
        name = composed.container("server-2")

        def go() -> None:
            if how == "stop":
                composed("stop", "server-2")
                code = podman("inspect", "--format", "{{.State.ExitCode}}", name)
                assert code == "0", podman.logs(name)
            else:
                podman("kill", "--signal", "KILL", name)

        starts = podman.logs(name).count(LOADED)
        asked_meanwhile(composed, go)
        until(lambda: composed.ready() == 1, composed.logs)
        composed("start", "server-2")
        until(lambda: podman.logs(name).count(LOADED) > starts, composed.logs)
        until(lambda: composed.ready() == 2, composed.logs)
