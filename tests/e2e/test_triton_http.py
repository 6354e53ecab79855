"""Clients made for other servers work unmodified, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from foretell.packing import pack
from tests.e2e.test_load import descendants, until
from tests.servers import Server, running

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "clients"
ROOT = Path(__file__).parents[2]
ROW = b'{"features": [35, 24, 65.5, 1572]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The models of `clients/echo.py`, which requests may unload."""
    made = tmp_path_factory.mktemp("clients")
    for version, kind in (("1.0.0", "Echo"), ("1.0.0", "Sums"), ("2.0-rc.1+x", "Sums")):
        pack(
            [f"echo:{kind}"],
            name=kind.lower(),
            version=version,
            repository=made,
            python_path=CLIENTS,
        )
    pack(["echo:Upper"], name="upper", repository=made, python_path=CLIENTS)
    with running(made, "--model-control") as server:
        yield server


def checked(python: str, script: str, address: str) -> str:
    """What the script prints, which ends well when all its checks hold."""
    ended = subprocess.run(
        [python, "-m", f"tests.e2e.clients.{script}", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize(("script", "checks"), [("triton_http", 14), ("triton_http_aio", 5)])
def test_tritons_http_clients_work_unmodified(server: Server, script: str, checks: int) -> None:
    told = checked(sys.executable, script, server.url.removeprefix("http://"))
    assert told.count("check_") == checks


def test_an_unload_holds_for_every_worker_until_the_model_is_loaded(churn: Path) -> None:
    def statuses(url: str) -> set[int]:
        """Of a readiness probe and a request each, over connections of their own."""
        paths = [(httpx.get, "/health/ready"), (httpx.get, "/v2/models/churn/ready")] * 20
        return {ask(url + path).status_code for ask, path in paths} | {
            httpx.post(f"{url}/predict", content=ROW).status_code for _ in range(20)
        }

    with running(churn, "--model-control", "--workers", "2") as server:
        until(lambda: len(descendants(server.process.pid)) == 2)
        repository = f"{server.url}/v2/repository/models/churn"
        assert statuses(server.url) == {200}
        assert httpx.post(f"{repository}/unload").status_code == 200
        assert statuses(server.url) == {503}
        refused = httpx.post(f"{server.url}/predict", content=ROW)
        assert refused.json()["code"] == "not_ready"
        assert int(refused.headers["retry-after"]) > 0
        assert httpx.post(f"{repository}/load").status_code == 200
        assert statuses(server.url) == {200}


@pytest.fixture(scope="session")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with KServe in it, which wants other versions than ours."""
    folder = tmp_path_factory.mktemp("kserve") / "venv"
    python = str(folder / "bin" / "python")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "--quiet", "kserve>=0.15"],
    ):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
        assert ended.returncode == 0, ended.stderr
    return python


@pytest.mark.parametrize(("script", "checks"), [("kserve_rest", 5), ("kserve_grpc", 4)])
def test_kserves_clients_work_unmodified(
    kserve: str, server: Server, script: str, checks: int
) -> None:
    told = checked(kserve, script, server.url.removeprefix("http://"))
    assert told.count("check_") == checks
