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

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLIENTS = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PYTHON_CLIENT = (ROOT / "docs" / "python_client.md").read_text(encoding="utf-8")


def blocks_of(page: str) -> list[tuple[str, str]]:
    """The kinds and texts of a page's blocks of code."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


BLOCKS = blocks_of(README)


def commands() -> Iterator[list[str]]:
    """Every `foretell pack` and `foretell inspect` of the README, as arguments."""
    for kind, text in BLOCKS:
        for line in text.replace("\\\n", " ").splitlines() if not kind else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["foretell"] and words[1] in ("pack", "inspect"):
                yield words[1:]


def requests(page: str) -> Iterator[tuple[list[str], str, dict[str, object]]]:
    """Every curl of a page: its words, its path, and the answer printed below it."""
    for (kind, text), (after, answer) in pairwise(blocks_of(page)):
        words = shlex.split(text.replace("\\\n", " ")) if not kind else []
        if words[:1] == ["curl"]:
            assert after == "json", f"no answer is shown below {words}"
            yield words, words[1].removeprefix("http://127.0.0.1:8000"), json.loads(answer)


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


@pytest.mark.parametrize(
    ("page", "paths"),
    [
        (README, ["/predict", "/batch_predict"]),
        (CLIENTS, ["/v2/models/churn/infer", "/v1/models/churn:predict", "/invocations"]),
    ],
)
def test_the_requests_get_answers_of_the_shape_shown(
    churn: Path, page: str, paths: list[str]
) -> None:
    told = list(requests(page))
    assert [path for _, path, _ in told] == paths
    with running(churn) as server:
        for words, path, shown in told:
            reply = httpx.post(server.url + path, content=words[words.index("-d") + 1])
            assert reply.status_code == 200, reply.text
            assert shape_of(reply.json()) == shape_of(shown)


def shape_of(told: object) -> object:
    """What an answer looks like: its keys, and the types of its values; texts stay."""
    match told:
        case dict():
            return [(key, shape_of(value)) for key, value in told.items()]
        case list():
            return [shape_of(value) for value in told]
        case str():
            return told
        case _:
            return type(told)


def test_the_client_of_triton_works_as_written(churn: Path) -> None:
    code = next(text for kind, text in blocks_of(CLIENTS) if kind == "python")
    with running(churn) as server:
        address = server.url.removeprefix("http://")
        ended = subprocess.run(
            [sys.executable, "-c", code.replace("127.0.0.1:8000", address)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"\[[01] [01]\] \[\[.*\]\s+\[.*\]\]\s*", ended.stdout), ended.stdout


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


@pytest.mark.parametrize("page", [README, CLIENTS])
def test_every_route_in_the_table_exists(churn: Path, page: str) -> None:
    listed = re.findall(r"^\| `(?:GET|POST) [^|]*", page, flags=re.MULTILINE)
    paths = {path for cell in listed for path in re.findall(r"(/[\w/{}.:…]*)`", cell)}
    assert {"/health/live", "/v2/health/live"} & paths
    with running(churn) as server:
        for path in paths - {"/batch_predict"}:
            url = path.replace("{name}", "churn").replace("{version}", "1.0.0")
            status = httpx.get(server.url + url).status_code
            assert status in (200, 405), (path, status)


def test_the_clients_examples_run_as_written(churn: Path, reader: Path) -> None:
    with running(churn) as server:
        asked = 0
        for kind, text in BLOCKS + blocks_of(PYTHON_CLIENT):
            told = text.replace("http://127.0.0.1:8000", server.url)
            runs: list[list[str]] = []
            if kind == "python" and "Client(" in text:
                runs.append(["-c", told])
            elif not kind:
                lines = [line for line in told.splitlines() if line.startswith("foretell predict")]
                runs += [["-m", *shlex.split(line)] for line in lines]
            for words in runs:
                ended = subprocess.run(
                    [sys.executable, *words],
                    cwd=reader,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert ended.returncode == 0, (words, ended.stderr)
                assert ended.stdout
                asked += 1
    assert asked == 9
