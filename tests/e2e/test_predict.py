"""`foretell predict` against a running server, as people and scripts call it."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, running

pytestmark = pytest.mark.slow

ROW = '{"age": 35.0, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}'


@pytest.fixture(scope="module")
def server(churn: Path) -> Iterator[Server]:
    with running(churn) as server:
        yield server


def predict(
    *arguments: str | Path, stdin: bytes = b"", **environ: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "foretell", "predict", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **environ},
    )


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_row_a_file_and_stdin_give_the_same(
    server: Server, trained: Path, tmp_path: Path, scheme: str
) -> None:
    url = server.url.replace("http", scheme)
    one = predict(url, "churn", ROW)
    assert one.returncode == 0, one.stderr
    (answer,) = map(json.loads, one.stdout.splitlines())
    assert set(answer) == {"prediction", "probability"}
    assert json.loads(predict(url, "churn", stdin=ROW.encode()).stdout) == answer
    (tmp_path / "rows.json").write_text(ROW)
    assert json.loads(predict(url, "churn", "--rows", tmp_path / "rows.json").stdout) == answer
    table = predict(url, "churn", "--rows", trained / "sample.csv", "--json")
    told = json.loads(table.stdout)
    assert (told["model"], told["version"]) == ("churn", "1.0.0")
    assert len(told["outputs"]["prediction"]) == 100


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_answers_that_cannot_be_written_are_told_in_a_sentence(
    server: Server, how: list[str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "foretell", "predict", server.url, "churn", ROW, *how],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 1
    assert ended.stderr == b"error: the output cannot be written: No space left on device\n"


def test_a_terminal_gets_a_table(server: Server) -> None:
    ours, theirs = pty.openpty()
    ended = subprocess.run(
        [sys.executable, "-m", "foretell", "predict", server.url, "churn", ROW],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        check=False,
        timeout=60,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert ended.returncode == 0
    assert "prediction" in text
    assert "1.0.0" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["churn", '{"age": "old"}'], 1, "field 'tenure' is missing"),
        (["churnn", ROW], 1, "no model 'churnn'; served are churn"),
        (["churn", ROW, "--version", "9"], 1, "no version '9'; loaded are 1.0.0"),
        (["churn", "{"], 1, "not valid JSON"),
        (["churn", ROW, "--rows", "x.csv"], 2, "given twice"),
        (["churn", ROW, "--timeout", "0"], 2, "timeout_s is '0'"),
        (["churn", ROW, "--balance", "hash"], 2, "give key="),
        (["churn", ROW, "--cafile", "ca.pem"], 2, "take https:// or grpcs:// URLs"),
        (["churn", ROW, "--tiemout", "1"], 2, "--timeout"),
    ],
)
def test_mistakes_end_with_a_sentence_and_the_usual_codes(
    server: Server, arguments: list[str], code: int, words: str
) -> None:
    ended = predict(server.url, *arguments)
    assert ended.returncode == code
    assert words in " ".join(ended.stderr.decode().split())
    assert b"Traceback" not in ended.stderr


def test_a_row_on_the_command_line_needs_no_stdin(server: Server) -> None:
    command = [sys.executable, "-m", "foretell", "predict", server.url, "churn", ROW]
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    ended = subprocess.run(shell, capture_output=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert b"prediction" in ended.stdout


def test_a_failure_as_json_says_where(server: Server) -> None:
    row = ROW.replace("24", '"two years"')
    ended = predict(server.url, "churn", f"[{ROW}, {row}]", "--json")
    assert ended.returncode == 1
    told = json.loads(ended.stdout)
    assert (told["code"], told["field"], told["row"]) == ("invalid_input", "tenure", 1)


def test_a_server_that_is_not_there_is_told_and_another_one_is_asked(server: Server) -> None:
    gone = "http://127.0.0.1:9"
    ended = predict(gone, "churn", ROW, "--attempts", "1")
    assert ended.returncode == 1
    assert b"no connection to http://127.0.0.1:9" in ended.stderr
    assert predict(f"{gone},{server.url}", "churn", ROW).returncode == 0
    assert (
        predict(f"{gone}=1,{server.url}=9", "churn", ROW, "--balance", "weighted").returncode == 0
    )


def test_settings_come_from_the_environment_and_the_file(server: Server, tmp_path: Path) -> None:
    ended = predict(server.url, "churn", ROW, FORETELL_CLIENT_TIMEOUT_S="-1")
    assert (ended.returncode, b"from the environment" in ended.stderr) == (2, True)
    (tmp_path / "own.toml").write_text("[client]\nattempts = 0")
    ended = predict(server.url, "churn", ROW, "--config", tmp_path / "own.toml")
    assert (ended.returncode, b"own.toml" in ended.stderr) == (2, True)
