"""The command line: pack and inspect, for people and for machines."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import foretell
from foretell.__main__ import STOPPED


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foretell", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_pack_reports_what_it_made(trained: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        "pack",
        trained / "scaler.pkl",
        trained / "model.pkl",
        "--name",
        "churn",
    ]
    arguments += ["--sample", trained / "sample.csv", "-o", tmp_path / "models"]
    ended = run(*arguments)
    assert ended.returncode == 0, ended.stderr
    assert "foretell serve" in ended.stdout
    assert "monthly_charges" in ended.stdout
    again = run(*arguments)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    told = json.loads(run(*arguments, "--version", "1.1.0", "--json").stdout)
    assert (told["name"], told["version"], told["trusted"]) == ("churn", "1.1.0", False)


@pytest.mark.slow
def test_pack_refuses_what_it_cannot_serve(trained: Path, tmp_path: Path) -> None:
    ended = run("pack", trained / "scaler.pkl", "-o", tmp_path, "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["code"] == "bad_package"
    assert "scaler.pkl" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_inspect_shows_packages_and_files(churn: Path, trained: Path) -> None:
    assert "sha256" in run("inspect", churn).stdout
    one = json.loads(run("inspect", churn / "churn" / "1.0.0", "--json").stdout)
    assert one["signature"]["class_labels"] == [0, 1]
    assert [one["name"]] == [p["name"] for p in json.loads(run("inspect", churn, "--json").stdout)]
    raw = run("inspect", trained / "model.pkl")
    assert "LogisticRegression" in raw.stdout
    assert json.loads(run("inspect", trained / "model.pkl", "--json").stdout)["refused"] == []


def test_inspect_finds_an_altered_package(own_churn: Path) -> None:
    model = next(own_churn.glob("*/*/*model.pkl"))
    model.write_bytes(model.read_bytes() + b"x")
    ended = run("inspect", own_churn)
    assert ended.returncode == 1
    assert "altered" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [[], ["pack"], ["inspect"], ["serve"], ["predict"], ["image"]])
def test_every_command_has_help(command: list[str]) -> None:
    ended = run(*command, "--help")
    assert ended.returncode == 0
    assert "Usage" in ended.stdout


@pytest.mark.slow
def test_serve_help_shows_every_setting() -> None:
    from foretell.app.settings import Settings

    words = run("serve", "--help").stdout
    names = Settings.model_fields.keys() - Settings.in_the_file
    assert all(f"--{name.replace('_', '-')}"[:20] in words for name in names)


@pytest.mark.slow
def test_predict_help_shows_every_setting() -> None:
    from foretell.app.settings import ClientSettings

    words = run("predict", "--help").stdout
    assert all(f"--{name.replace('_', '-')}" in words for name in ClientSettings.model_fields)


def test_a_misspelt_flag_names_the_nearest_one(tmp_path: Path) -> None:
    ended = run("serve", tmp_path, "--worker", "2")
    assert ended.returncode == 2
    assert "--workers" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [["--version"], ["--help"], ["serve", "--help"], ["inspect", "."], ["inspect", ".", "--json"]],
)
@pytest.mark.parametrize("errors_too", [False, True])
def test_output_that_cannot_be_written_is_told_in_a_sentence(
    own_churn: Path, command: list[str], errors_too: bool
) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "foretell", *command],
            stdout=full,
            stderr=full if errors_too else subprocess.PIPE,
            text=True,
            cwd=own_churn,
            check=False,
            timeout=120,
        )
    assert ended.returncode == 1
    if not errors_too:
        assert ended.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inspect", b"caf\xe9"], 1),
        (["inspect", b"caf\xe9", "--json"], 1),
        (["predict", "http://127.0.0.1:9", b"caf\xe9", "[1]"], 2),
        (["predict", "grpc://127.0.0.1:9", b"caf\xe9", "[1]"], 2),
        (["predict", "grpc://127.0.0.1:9", "a", "[1]", "--version", b"\xff"], 2),
        (["predict", b"http://caf\xe9:9", "a", "[1]"], 2),
        (["predict", "http://127.0.0.1:9", "a", "[1]", "--api-key", b"caf\xe9"], 2),
        (["serve", b"caf\xe9"], 1),
    ],
)
def test_arguments_that_are_not_utf_8_are_told_of_in_a_sentence(
    arguments: list[str | bytes], code: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "foretell", *arguments],
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "FORETELL_CLIENT_ATTEMPTS": "1"},
    )
    told = ended.stderr.decode()
    assert ended.returncode == code, told
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_the_version() -> None:
    assert run("--version").stdout == f"foretell {foretell.__version__}\n"


@pytest.mark.slow
def test_the_first_process_of_a_container_stops_while_it_is_loaded() -> None:
    """SIGTERM has no default there: unheard, it would leave the platform to kill the process."""
    alone = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-X", "importtime"]
    with subprocess.Popen(
        [*alone, "-m", "foretell", "serve", "nowhere"], stderr=subprocess.PIPE, text=True
    ) as unshare:
        assert unshare.stderr is not None
        assert any(" typer" in line for line in unshare.stderr), "the command line was not loaded"
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
        told = unshare.stderr.read()
        assert unshare.wait(30) == STOPPED, told
