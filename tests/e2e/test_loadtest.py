"""`foretell loadtest` against a running server, as people and pipelines call it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, running

pytestmark = pytest.mark.slow

ALL = "rest,grpc,grpc-infer,binary,arrow"


@pytest.fixture(scope="module")
def server(churn: Path) -> Iterator[Server]:
    with running(churn) as server:
        yield server


def loadtest(
    *arguments: str | Path, model: str = "churn", **environ: str
) -> subprocess.CompletedProcess[str]:
    told = ["--model", model, "--duration", "1", "--warmup", "0.2", *map(str, arguments)]
    return subprocess.run(
        [sys.executable, "-m", "foretell", "loadtest", *told],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environ},
    )


@pytest.mark.parametrize("rows", ["1", "40"])
def test_every_protocol_is_answered_and_looked_at(server: Server, rows: str) -> None:
    asked = loadtest(server.url, "--compare", ALL, "--rate", "50", "--rows", rows, "--json")
    assert asked.returncode == 0, asked.stderr
    told = {one["protocol"]: one for one in json.loads(asked.stdout)["results"]}
    assert list(told) == ALL.split(",")
    for one in told.values():
        assert (one["answered"], one["failed"], one["unsent"]) == (50, 0, 0)
        assert one["checked_in_full"] >= 1
        assert one["rows"] == int(rows)
    assert told["grpc"]["what"].startswith("/prediction.PredictionService/")


def test_grpc_takes_less_than_half_of_what_json_takes(server: Server) -> None:
    asked = loadtest(server.url, "--compare", "rest,grpc", "--rate", "50", "--json")
    rest, grpc = json.loads(asked.stdout)["results"]
    both = [one["request_bytes"] + one["reply_bytes"] for one in (rest, grpc)]
    assert both[1] < both[0] / 2


def test_a_sample_is_sent_and_a_table_and_a_page_come_out(
    server: Server, trained: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    asked = loadtest(
        server.url, "--sample", trained / "sample.csv", "--concurrency", "2", "--html", page
    )
    assert asked.returncode == 0, asked.stderr
    assert "answers/s" in asked.stdout
    assert "closed loop, 2 under way" in asked.stdout
    assert "churn at http" in page.read_text(encoding="utf-8")


def test_thresholds_make_the_exit_code(server: Server) -> None:
    slow = loadtest(server.url, "--max-p99-ms", "0.001", "--quiet")
    assert (slow.returncode, slow.stdout) == (1, "")
    assert "over 0.001 ms" in slow.stderr
    assert loadtest(server.url, "--max-p99-ms", "60000", "--quiet").returncode == 0


def test_a_server_over_its_limit_is_told(churn: Path) -> None:
    with running(churn, "--max-rows", "10") as small:
        asked = loadtest(small.url, "--rows", "11")
    assert asked.returncode == 1
    assert "the limit is 10" in asked.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["http://127.0.0.1:9"], 1, "start a server with foretell serve"),
        (["ftp://127.0.0.1:9"], 2, "write http://HOST:PORT"),
        (["http://127.0.0.1:9", "--compare", "rest,grcp"], 2, "did you mean 'grpc'"),
        (["http://127.0.0.1:9", "--rate", "0"], 2, "greater than 0"),
        (["http://127.0.0.1:9", "--html", "no/such/folder/report.html"], 2, "no folder"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    arguments: list[str], code: int, words: str
) -> None:
    asked = loadtest(*arguments)
    assert (asked.returncode, words in asked.stderr) == (code, True), asked.stderr


def test_an_unknown_model_is_told_with_those_there_are(server: Server) -> None:
    asked = loadtest(server.url, model="chrn")
    assert (asked.returncode, "served are churn" in asked.stderr) == (1, True)


def test_settings_come_from_the_environment(server: Server) -> None:
    asked = loadtest(server.url, "--json", FORETELL_LOADTEST_RATE="40")
    assert json.loads(asked.stdout)["results"][0]["rate"] == 40


def commands() -> list[list[str]]:
    """Every `foretell loadtest` of the docs, as arguments."""
    page = (Path(__file__).parents[2] / "docs" / "loadtest.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [line[2:] for line in lines if line[:2] == ["foretell", "loadtest"]]


def test_the_commands_of_the_docs_do_what_they_say(
    server: Server, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained / "sample.csv", tmp_path)
    quick = ["--duration", "0.5", "--max-p99-ms", "60000", "--max-error-ratio", "0"]
    assert len(commands()) == 5
    for words in commands():
        shell, _, _ = " ".join(words).partition(" > ")
        told = shell.replace("http://127.0.0.1:8000", server.url).split()
        asked = loadtest(*told, *quick)
        assert asked.returncode == 0, (told, asked.stderr)
    assert (tmp_path / "report.html").exists()
