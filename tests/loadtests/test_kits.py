"""The kits of loadtests/, run as their README tells: at servers good, faulty and dead."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.faulty import Served, serving

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kits")]  # at one server

ROOT = Path(__file__).parents[2]
README = (ROOT / "loadtests" / "README.md").read_text(encoding="utf-8")
DEAD = "http://127.0.0.1:1"
LASTS_S = 2
WITHIN_S = 60
HEALTH = ("health", "HealthCheck")


@dataclass(frozen=True)
class Place:
    """A server, its model's fault, and an empty folder of ours."""

    url: str
    fault: Path
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("faulty")) as served:
        yield served


@pytest.fixture
def place(served: Served, tmp_path: Path) -> Iterator[Place]:
    yield Place(served.url, served.fault, tmp_path)
    served.fault.unlink(missing_ok=True)


def told(word: str) -> str:
    """The README's command with that word, as one line of the shell."""
    lines = re.findall(r"^(?:k6|locust|wrk|curl) .*$", README, flags=re.MULTILINE)
    (line,) = (line for line in lines if word in line)
    line = re.sub(r"\b30s", f"{LASTS_S}s", line).replace("churn", "faulty")
    return line.replace("loadtests/", f"{ROOT}/loadtests/")


def run(line: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What came of a command line of the README, in `folder`, at the server `url`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", line.replace("http://127.0.0.1:8000", url)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
        env={**os.environ, "PATH": path, "K6_ADDRESS": ""},
    )


def row(folder: Path) -> None:
    (folder / "row.json").write_text('{"x": 1.0, "y": 2.5}')


class TestLocust:
    line = f"{told('locust -f')} --json-file report"

    def counts(self, folder: Path) -> dict[str, tuple[int, int]]:
        """Requests and failures by name."""
        stats = json.loads((folder / "report.json").read_text())
        return {one["name"]: (one["num_requests"], one["num_failures"]) for one in stats}

    def test_all_users_are_answered(self, place: Place) -> None:
        ended = run(self.line, place.url, place.folder)
        assert ended.returncode == 0, ended.stderr
        counts = self.counts(place.folder)
        assert set(counts) == {"predict", "batch_predict", "Predict", "BatchPredict", *HEALTH}
        assert all(requests > 0 and failures == 0 for requests, failures in counts.values()), counts

    def test_a_run_lasts_as_long_as_was_said(self, place: Place) -> None:
        """However long its imports take, which Locust takes off the time of the run."""
        wait = 'from gevent import monkey\nmonkey.get_original("time", "sleep")(1)\n'
        (place.folder / "late.py").write_text(f"{wait}from locustfile import *\n")
        line = self.line.replace(f"{ROOT}/loadtests/locustfile.py", "late.py")
        ended = run(f"PYTHONPATH={ROOT}/loadtests:{ROOT}/src {line}", place.url, place.folder)
        assert ended.returncode == 0, ended.stderr
        lasted = self.logged(ended.stderr, "limit reached") - self.logged(ended.stderr, "limit set")
        assert lasted.total_seconds() > 0.9 * LASTS_S

    def logged(self, log: str, words: str) -> datetime:
        """When Locust logged these words."""
        found = re.search(rf"^\[(\S+ \S+)\] .*{words}", log, re.MULTILINE)
        assert found is not None, log
        return datetime.strptime(found.group(1), "%Y-%m-%d %H:%M:%S,%f")

    def test_failures_are_told_as_failures(self, place: Place) -> None:
        place.fault.touch()
        ended = run(self.line, place.url, place.folder)
        assert ended.returncode == 1
        counts = self.counts(place.folder)
        assert {"predict", "Predict"} <= set(counts)  # the others are asked too seldom to be sure
        for name, (requests, failures) in counts.items():
            assert failures == (0 if name in HEALTH else requests), counts

    @pytest.mark.parametrize("change", ["--host", "--model nobody --host"])
    def test_nothing_to_ask_is_a_failure(self, place: Place, change: str) -> None:
        url = place.url if "nobody" in change else DEAD
        ended = run(self.line.replace("--host", change), url, place.folder)
        assert ended.returncode == 1
        assert f"no example of a row from {url}" in ended.stderr

    def test_a_run_without_a_request_is_a_failure(self, place: Place) -> None:
        ended = run(f"{self.line} --tags none", place.url, place.folder)
        assert ended.returncode == 1
        assert "no request was answered" in ended.stderr


@pytest.mark.parametrize("script", ["rest.js", "grpc.js"])
class TestK6:
    def line(self, script: str, more: str = "") -> str:
        # Whoever else uses this machine must not cost us a threshold.
        patient = "-e USERS=500 -e MAX_P99_MS=5000"
        return f"{told(script)} --no-color --quiet --summary-export report.json {patient} {more}"

    def metrics(self, folder: Path) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = json.loads((folder / "report.json").read_text())[
            "metrics"
        ]
        return found

    def test_the_rate_is_kept_and_answered(self, place: Place, script: str) -> None:
        ended = run(self.line(script), place.url, place.folder)
        assert ended.returncode == 0, ended.stdout
        metrics = self.metrics(place.folder)
        for kind, share in (("predict", 0.8), ("batch_predict", 0.1), ("health", 0.1)):
            meant = 200 * share * LASTS_S
            asked = metrics[f"iterations{{scenario:{kind}}}"]["count"]
            assert 0.9 * meant <= asked <= 1.1 * meant, metrics
            assert metrics[f"checks{{scenario:{kind}}}"]["passes"] == asked

    def test_failures_are_told_as_failures(self, place: Place, script: str) -> None:
        place.fault.touch()
        ended = run(self.line(script), place.url, place.folder)
        assert ended.returncode == 99, ended.stdout
        metrics = self.metrics(place.folder)
        assert metrics["checks{scenario:predict}"]["passes"] == 0
        assert metrics["checks{scenario:batch_predict}"]["passes"] == 0
        assert metrics["checks{scenario:health}"]["fails"] == 0

    def test_a_slow_answer_misses_the_threshold(self, place: Place, script: str) -> None:
        ended = run(self.line(script, "-e MAX_P99_MS=0.001"), place.url, place.folder)
        assert ended.returncode == 99, ended.stdout
        assert "have been crossed" in ended.stderr

    @pytest.mark.parametrize("more", ["", "-e MODEL=nobody", "-e RATE=some"])
    def test_nothing_to_ask_is_a_failure(self, place: Place, script: str, more: str) -> None:
        url = place.url if more else DEAD
        ended = run(self.line(script, more), url, place.folder)
        assert ended.returncode not in (0, 99), ended.stdout
        assert re.search("refused|not_found|must be a positive number", ended.stderr), ended.stderr


class TestWrk:
    def counts(self, ended: subprocess.CompletedProcess[str]) -> tuple[int, int, int]:
        """Answered, refused, broken."""
        found = re.search(r"answered (\d+), refused (\d+), broken (\d+), p50", ended.stdout)
        assert found is not None, ended.stdout + ended.stderr
        answered, refused, broken = (int(number) for number in found.groups())
        return answered, refused, broken

    @pytest.mark.parametrize("script", ["predict.lua", "batch_predict.lua", "health.lua"])
    def test_requests_are_answered(self, place: Place, script: str) -> None:
        line = f"{told('curl')}; {told(f'/{script}')}"  # the row comes from the server, as told
        ended = run(line, place.url, place.folder)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        answered, refused, broken = self.counts(ended)
        assert answered > 100
        assert (refused, broken) == (0, 0)

    @pytest.mark.parametrize("script", ["predict.lua", "batch_predict.lua"])
    def test_failures_are_told_as_failures(self, place: Place, script: str) -> None:
        place.fault.touch()
        row(place.folder)
        ended = run(told(f"/{script}"), place.url, place.folder)
        assert ended.returncode == 1
        answered, refused, _ = self.counts(ended)
        assert answered == 0 < refused

    def test_a_row_that_the_model_does_not_take_is_a_failure(self, place: Place) -> None:
        (place.folder / "row.json").write_text('{"z": 1}')
        assert run(told("/predict.lua"), place.url, place.folder).returncode == 1

    def test_nobody_there_is_a_failure(self, place: Place) -> None:
        row(place.folder)
        assert run(told("/predict.lua"), DEAD, place.folder).returncode == 1
        assert run(told("/health.lua"), DEAD, place.folder).returncode == 1
