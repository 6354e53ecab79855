"""The README is run: its commands, its requests, its Python, in the order a reader meets them."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.servers import running

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> Iterator[list[str]]:
    """Every `foretell pack` and `foretell inspect` of the README, as arguments."""
    for kind, text in BLOCKS:
        for line in text.replace("\\\n", " ").splitlines() if not kind else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["foretell"] and words[1] in ("pack", "inspect"):
                yield words[1:]


def requests() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Every curl of the README: its path, its body, and the answer printed below it."""
    for (kind, text), (after, answer) in pairwise(BLOCKS):
        words = shlex.split(text.replace("\\\n", " ")) if not kind else []
        if words[:1] == ["curl"]:
            assert after == "json", f"no answer is shown below {words}"
            path = words[1].removeprefix("http://127.0.0.1:8000")
            yield path, words[words.index("-d") + 1], json.loads(answer)


@pytest.fixture
def reader(trained: Path, tmp_path: Path) -> Path:
    """A reader's folder: the files the README speaks of."""
    for name in ("scaler.pkl", "model.pkl", "sample.csv"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "weights.txt").write_text("1")
    code = next(text for kind, text in BLOCKS if kind == "python" and "my_model.py" in text)
    (tmp_path / "my_model.py").write_text(code)
    return tmp_path


def test_the_commands_work_as_written(reader: Path) -> None:
    told = list(commands())
    assert len(told) >= 4
    taken: set[tuple[str, ...]] = set()
    for number, words in enumerate(told):
        if words[0] == "pack":
            # The README makes churn 1.0.0 in several ways; here each has a repository of its own.
            place = words.index("-o") + 1
            made = f"{words[place]}{number}"
            words[place] = made
            taken.add(tuple(words))
        else:
            words[1] = words[1].replace("models/", made, 1).replace(made, f"{made}/", 1)
        ended = subprocess.run(
            [sys.executable, "-m", "foretell", *words],
            cwd=reader,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, (words, ended.stderr)
    assert len(taken) >= 3


def test_the_requests_get_answers_of_the_shape_shown(churn: Path) -> None:
    told = list(requests())
    assert [path for path, _, _ in told] == ["/predict", "/batch_predict"]
    with running(churn) as server:
        for path, body, shown in told:
            reply = httpx.post(server.url + path, content=body)
            assert reply.status_code == 200, reply.text
            got = reply.json()
            assert list(got) == list(shown)
            assert got["model_version"] == shown["model_version"]
            for key, value in shown.items():
                assert type(got[key]) is type(value)


def test_the_python_runs_as_written(reader: Path) -> None:
    code = next(text for kind, text in BLOCKS if kind == "python" and "create_app" in text)
    ended = subprocess.run(
        [sys.executable, "-c", code + "\nprint(type(app).__mro__)"],
        cwd=reader,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "FastAPI" in ended.stdout


def test_every_route_in_the_table_exists(churn: Path) -> None:
    listed = re.findall(r"^\| `(?:GET|POST) [^|]*", README, flags=re.MULTILINE)
    paths = {path for cell in listed for path in re.findall(r"(/[\w/{}.…]*)`", cell)}
    assert "/health/live" in paths
    with running(churn) as server:
        for path in paths - {"/batch_predict"}:
            url = path.replace("{name}", "churn").replace("{version}", "1.0.0")
            status = httpx.get(server.url + url).status_code
            assert status in (200, 405), (path, status)
