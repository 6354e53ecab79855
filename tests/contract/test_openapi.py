"""Schemathesis holds the server against its own OpenAPI document, over a real socket."""

import subprocess
import sys
from pathlib import Path
from sysconfig import get_path

import httpx
import pytest

from tests.servers import Server, running

pytestmark = pytest.mark.slow


UNSAID = "/versions/|/infer$|:predict$|/invocations$"
"""Paths of a version have the same endpoints as the bare ones, and would be tested twice; what the
protocols' bodies must be depends on themselves, as a tensor's data on its shape."""


def schemathesis(folder: Path, *arguments: str) -> None:
    ended = subprocess.run(
        [
            Path(get_path("scripts"), "schemathesis"),
            "run",
            *arguments,
            "--phases=examples,coverage,fuzzing",
            "--seed=1",
            "--no-color",
            "--generation-database=none",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert "operations" in ended.stdout.lower()


def test_the_server_does_what_its_document_says(server: Server, tmp_path: Path) -> None:
    # Whatever the fuzzer sends moody is answered as its signature says.
    document = f"{server.url}/openapi.json"
    schemathesis(tmp_path, document, "--max-examples=40", f"--exclude-path-regex={UNSAID}")


def test_what_the_document_cannot_say_is_no_failure_of_the_server(
    repository: Path, tmp_path: Path
) -> None:
    with running(repository, "--default-model", "churn") as server:
        schemathesis(
            tmp_path,
            f"{server.url}/openapi.json",
            "--max-examples=5",
            f"--include-path-regex={UNSAID}",
            "--checks=not_a_server_error",
        )


@pytest.mark.parametrize("with_key", [True, False])
def test_with_keys_no_route_fails_whoever_asks(
    repository: Path, tmp_path: Path, *, with_key: bool
) -> None:
    file = tmp_path / "keys.toml"
    command = [sys.executable, "-m", "foretell", "key", "new", "ops", "--file", str(file)]
    key = subprocess.run(
        [*command, "--admin"], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()
    header = {"authorization": f"Bearer {key}"}
    arguments = ["--default-model", "churn", "--model-control", "--keys-file", str(file)]
    with running(repository, *arguments) as server:
        document = tmp_path / "openapi.json"
        document.write_text(httpx.get(f"{server.url}/openapi.json", headers=header).text)
        told = ["--url", server.url, "--max-examples=2", "--checks=not_a_server_error"]
        if with_key:
            # who may unload models gets 503 for them from then on
            told += ["--header", f"Authorization: Bearer {key}", "--exclude-path-regex=/unload$"]
        schemathesis(tmp_path, str(document), *told)
        left = httpx.get(f"{server.url}/v2/models/churn/ready", headers=header)
        assert left.status_code == 200
        assert httpx.get(f"{server.url}/v2/models/churn/ready").status_code == 401
