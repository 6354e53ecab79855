"""The batch command: what it shows, what it exits with, and what schedulers are told."""

from __future__ import annotations

import http.server
import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from foretell.app.batching import jobs, metrics, showing
from foretell.app.batching.choices import BatchSettings
from foretell.app.cli import main
from foretell.errors import BadSettings, StartFailed
from foretell.transports.batch.report import Progress
from tests.transports.batch.conftest import arrow, repository
from tests.transports.batch.files import write, written

__all__ = ["repository"]

HALF = Progress(
    rows=1_000_000,
    bad=3,
    parts=1,
    rows_before=1_000_000,
    parts_before=1,
    rows_total=4_000_000,
    parts_total=4,
    seconds=2.0,
)


def test_progress_is_told_in_one_line() -> None:
    assert showing.spoken(HALF) == (
        "2,000,000 of 4,000,000 rows (50%), 500,000 rows/s, 4.0 s left, 2 of 4 parts, 3 bad rows"
    )


def test_what_nobody_knows_is_not_told() -> None:
    unknown = Progress(10, 0, 0, 0, 0, None, None, 1.0)
    assert showing.spoken(unknown) == "10 rows, 10 rows/s, 0 parts, 0 bad rows"
    assert Progress(0, 0, 0, 0, 0, 10, 1, 0.0).seconds_left is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(8.21, "8.2 s"), (65, "1:05 min"), (7387, "2:03:07 h")]
)
def test_times_are_told_as_people_read_them(seconds: float, words: str) -> None:
    assert showing.time_of(seconds) == words


def test_without_a_terminal_a_line_is_written_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("foretell.app.batching.showing.time.monotonic", lambda: now)
    out = io.StringIO()
    with showing.watched(Console(file=out, width=200), quiet=False) as hook:
        for second in (1.0, 9.0, 11.0, 12.0, 22.0):
            now = second
            hook(HALF)
    assert out.getvalue().count("\n") == 2
    assert "50%" in out.getvalue()


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True)
    with showing.watched(console, quiet=False) as hook:
        hook(HALF)
    assert "2,000,000 of 4,000,000 rows" in out.getvalue()


def test_metrics_are_prometheus_text() -> None:
    text = metrics.text_of({"model": 'a"b', "output": "x\ny"}, HALF, success=True)
    assert 'foretell_batch_rows{model="a\\"b",output="x\\ny"} 1000000.0\n' in text
    assert "# TYPE foretell_batch_success gauge\n" in text
    assert "} 1.0\n" in text.split("success{")[1]
    assert "rows_per_second" not in metrics.text_of({}, None, success=False)


def test_metrics_replace_their_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "foretell.prom"
    path.write_text("old")
    metrics.write(path, "new")
    assert path.read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["foretell.prom"]
    with pytest.raises(StartFailed, match="cannot be written"):
        metrics.write(tmp_path / "none" / "x.prom", "new")


@contextmanager
def gateway() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A server that takes what is pushed."""
    got: list[tuple[str, str, bytes]] = []

    class Taking(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.command, self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


def test_metrics_are_pushed_to_a_gateway() -> None:
    with gateway() as (url, got):
        metrics.push(f"{url}/", "my model", "text")
    assert got == [("PUT", "/metrics/job/foretell_batch/model/my%20model", b"text")]
    with pytest.raises(StartFailed, match="cannot be pushed"):
        metrics.push(url, "churn", "text")
    with pytest.raises(BadSettings, match="must be a URL"):
        metrics.check(None, "gateway:9091")


def test_settings_come_from_file_environment_and_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("foretell.toml").write_text("workers = 3\n[batch]\nthreads = 3\nkeep = ['a']\n")
    told = BatchSettings.read({"keep": "id,date"}, environ={"FORETELL_BATCH_LIMIT": "5"})
    assert (told.threads, told.limit, told.keep) == (3, 5, ("id", "date"))
    assert BatchSettings.read({"keep": ""}, environ={}).keep == ()
    assert BatchSettings.read({"keep": ["größe, m²"]}, environ={}).keep == ("größe, m²",)
    assert BatchSettings.read({}, environ={}).keep == ("a",)
    with pytest.raises(BadSettings, match="'a' takes one column; name it once"):
        BatchSettings.read({"columns": "a=x,b=y,a=z"}, environ={})
    with pytest.raises(BadSettings, match="did you mean 'quarantine'"):
        BatchSettings.read({"on_bad_row": "quarantined"}, environ={})


def code(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of `foretell batch` in this process, and what it wrote."""
    with pytest.raises(SystemExit) as told:
        main(["batch", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(told.value.code or 0), out, err


@pytest.mark.slow
def test_exit_codes_tell_schedulers_what_became_of_it(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(arrow(50), tmp_path / "in.csv")
    prom = tmp_path / "batch.prom"
    job = (repository, tmp_path / "in.csv", tmp_path / "out")
    got, out, err = code(capsys, *job, "--metrics-file", prom)
    assert got == 0, err
    assert "scored" in out
    assert "50" in out
    assert 'foretell_batch_success{model="plans"' in prom.read_text()
    (tmp_path / "in.csv").write_text("usage,plan,active\n1,basic,true\nmany,basic,true\n")
    job = (repository, tmp_path / "in.csv", tmp_path / "bad")
    got, out, err = code(capsys, *job, "--json", "--metrics-file", prom)
    assert got == 1
    told = json.loads(out)
    assert (told["code"], told["field"], told["row"]) == ("invalid_input", "usage", 1)
    assert "row 1" in err
    assert prom.read_text().split("foretell_batch_success{")[1].splitlines()[0].endswith(" 0.0")
    job = (repository, tmp_path / "in.csv", tmp_path / "skipped")
    got, out, err = code(capsys, *job, "--on-bad-row", "quarantine")
    assert got == 3, err
    assert "1 bad rows were written to" in out.replace("\n", "")
    got, out, err = code(capsys, *job, "--on-bad-row", "fall")
    assert got == 2
    assert "did you mean 'fail'" in err


@pytest.mark.slow
def test_metrics_that_cannot_be_sent_hide_neither_failure_nor_success(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway() as (url, _):
        pass
    (tmp_path / "bad.csv").write_text("usage,plan,active\nmany,basic,true\n")
    write(arrow(5), tmp_path / "in.csv")
    got, out, _ = code(
        capsys, repository, tmp_path / "bad.csv", tmp_path / "1", "--json", "--pushgateway", url
    )
    told = json.loads(out)
    assert (got, told["code"]) == (1, "invalid_input")
    assert "'usage' is \"many\"" in told["error"]
    assert "cannot be pushed" in told["error"]
    got, _, err = code(
        capsys, repository, tmp_path / "in.csv", tmp_path / "2", "--pushgateway", url
    )
    assert got == 1
    assert "all rows are done, but the metrics cannot be pushed" in err
    assert (tmp_path / "2" / "_SUCCESS").exists()


@pytest.mark.slow
def test_where_metrics_go_is_judged_before_the_job(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(arrow(5), tmp_path / "in.csv")
    job = (repository, tmp_path / "in.csv", tmp_path / "out")
    assert code(capsys, *job, "--metrics-file", tmp_path / "none" / "x.prom")[0] == 2
    assert code(capsys, *job, "--pushgateway", "gateway:9091")[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_job_that_is_stopped_says_so_in_json(
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(arrow(5), tmp_path / "in.csv")

    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(jobs, "run", stopped)
    got, out, _ = code(capsys, repository, tmp_path / "in.csv", tmp_path / "out", "--json")
    assert got == 143
    assert json.loads(out)["code"] == "stopped"


@pytest.mark.slow
def test_a_file_without_bad_rows_has_none_of_another_job_beside_it(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("usage,plan,active\nmany,basic,true\n1,basic,true\n")
    job = (repository, tmp_path / "in.csv", tmp_path / "out.csv", "--on-bad-row", "quarantine")
    assert code(capsys, *job)[0] == 3
    assert (tmp_path / "out.csv.quarantine.ndjson").exists()
    (tmp_path / "in.csv").write_text("usage,plan,active\n1,basic,true\n")
    assert code(capsys, *job, "--overwrite")[0] == 0
    assert not (tmp_path / "out.csv.quarantine.ndjson").exists()


@pytest.mark.slow
def test_a_dry_run_tells_the_plan_and_does_nothing(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(arrow(50), tmp_path / "in.parquet")
    job = (repository, tmp_path / "in.parquet", tmp_path / "out", "--dry-run")
    got, out, err = code(capsys, *job)
    assert got == 0, err
    assert "rows: 50 in 1 parts" in out
    assert "model_version" in out
    got, out, err = code(capsys, *job, "--json", "--columns", "usage=id", "--limit", "7")
    told = json.loads(out)
    assert (told["files"], told["rows"], told["parts"]) == (1, 7, 1)
    assert told["inputs"] == {"usage": "id", "plan": "plan", "active": "active"}
    assert told["columns"]["probability"] == "double"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_quiet_says_nothing(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(arrow(5), tmp_path / "in.parquet")
    got = code(capsys, repository, tmp_path / "in.parquet", tmp_path / "out", "--quiet")
    assert got == (0, "", "")
    assert written(tmp_path / "out").num_rows == 5


@pytest.mark.slow
def test_a_job_that_was_done_says_so_and_another_one_may_overwrite(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(arrow(5), tmp_path / "in.parquet")
    job = (repository, tmp_path / "in.parquet", tmp_path / "out")
    assert "done before" not in code(capsys, *job)[1]
    got, out, _ = code(capsys, *job)
    assert got == 0
    assert "all of it was done before" in out
    got, _, err = code(capsys, *job, "--limit", "2")
    assert got == 1
    assert "--limit is 2, but was not given" in err
    assert code(capsys, *job, "--limit", "2", "--overwrite")[0] == 0
    assert written(tmp_path / "out").num_rows == 2


@pytest.mark.slow
def test_a_repository_of_several_models_needs_a_name(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = tmp_path / "models"
    shutil.copytree(repository, both)
    manifest = both / "plans" / "1.0.0" / "model.json"
    other = both / "others" / "1.0.0"
    shutil.copytree(manifest.parent, other)
    text = manifest.read_text().replace('"name": "plans"', '"name": "others"', 1)
    (other / "model.json").write_text(text)
    write(arrow(5), tmp_path / "in.parquet")
    got, _, err = code(capsys, both, tmp_path / "in.parquet", tmp_path / "out")
    assert got == 1
    assert "holds several models; name one of" in err
