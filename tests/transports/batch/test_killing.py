"""Jobs that are killed, stopped, or started twice: real processes, and each row once in the end."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import write

pytestmark = pytest.mark.slow

OPTIONS = ["--part-rows", "250", "--batch-rows", "50", "--on-bad-row", "quarantine", "--json"]
KEPT_OUT = "predicted_at"


def started(repository: Path, data: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "foretell", "batch", repository, data, output]
    return subprocess.Popen(
        [*map(str, command), *OPTIONS, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def parts_done(output: Path) -> int:
    return len(list((output / "_foretell" / "done").glob("*")))


def until(process: subprocess.Popen[str], output: Path, parts: int) -> bool:
    """Until so many parts are done, or the process has ended; whether it still runs."""
    while parts_done(output) < parts:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.002)
            return False
    return True


def result(output: Path) -> dict[str, object]:
    """All that a job has written for its readers, by file."""
    told: dict[str, object] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.suffix == ".parquet" and path.is_file():
            told[name] = pq.read_table(path).drop_columns([KEPT_OUT]).to_pydict()
        elif name.startswith("_quarantine/"):
            told[name] = path.read_text()
    return told


def times(output: Path) -> set[object]:
    parts = output.glob("part-*.parquet")
    return {time for path in parts for time in pq.read_table(path)[KEPT_OUT].to_pylist()}


def data_set(folder: Path, form: str, rows: int) -> Path:
    """Two files, of which one has to be read one row after the other; every 97th row is bad."""
    table = arrow(rows)
    usage = [
        float("inf") if n % 97 == 0 else value for n, value in enumerate(table["usage"].to_pylist())
    ]
    table = table.set_column(1, "usage", pa.array(usage))
    if form == "csv":
        for number in range(2):
            write(table.slice(number * rows // 2, rows // 2), folder / f"{number}.csv")
    else:
        folder.mkdir()
        pq.write_table(table.slice(0, rows // 2), folder / "0.parquet", row_group_size=rows)
        pq.write_table(table.slice(rows // 2), folder / "1.parquet", row_group_size=100)
    return folder


@pytest.mark.parametrize(("form", "kills"), [("parquet", 20), ("csv", 5)])
def test_a_job_killed_at_random_moments_ends_as_one_that_was_not(
    repository: Path, tmp_path: Path, form: str, kills: int
) -> None:
    draw = random.Random(11)
    data = data_set(tmp_path / "in", form, 500 * 4 * (kills + 2))
    whole = started(repository, data, tmp_path / "whole")
    code, out, err = ended(whole)
    assert code == 3, err
    killed = 0
    for _ in range(kills):
        process = started(repository, data, tmp_path / "killed")
        if until(
            process, tmp_path / "killed", parts_done(tmp_path / "killed") + draw.randint(1, 3)
        ):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.random() * 0.02)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= kills * 0.8, "it was over too soon"
    code, again, err = ended(started(repository, data, tmp_path / "killed"))
    assert code == 3, err
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    assert len(times(tmp_path / "killed")) == 1
    first, last = json.loads(out), json.loads(again)
    assert last["parts_before"] > 0
    for name in ("rows_in", "rows_scored", "bad_rows", "parts"):
        assert first[name] == last[name]
    assert not [path for path in (tmp_path / "killed").rglob("*") if ".tmp" in path.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_job_cleanly_and_it_goes_on_later(
    repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    data = data_set(tmp_path / "in", "parquet", 40_000)
    process = started(repository, data, tmp_path / "out")
    assert until(process, tmp_path / "out", 2)
    process.send_signal(number)
    code, _, err = ended(process)
    assert code == 128 + number
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    code, out, err = ended(started(repository, data, tmp_path / "out"))
    assert code == 3, err
    told = json.loads(out)
    assert told["rows_in"] == 40_000
    assert told["parts_before"] >= 2


def test_a_second_job_on_the_same_output_is_refused(repository: Path, tmp_path: Path) -> None:
    data = data_set(tmp_path / "in", "parquet", 40_000)
    first = started(repository, data, tmp_path / "out")
    assert until(first, tmp_path / "out", 1)
    first.send_signal(signal.SIGSTOP)
    code, _, err = ended(started(repository, data, tmp_path / "out"))
    first.send_signal(signal.SIGCONT)
    assert code == 1
    assert "another job" in err
    code, _, err = ended(first)
    assert code == 3, err


def test_a_single_file_appears_only_when_it_is_complete(repository: Path, tmp_path: Path) -> None:
    data = data_set(tmp_path / "in", "parquet", 40_000)
    output = tmp_path / "out.parquet"
    process = started(repository, data, output)
    assert until(process, tmp_path / ".out.parquet.parts", 2)
    process.kill()
    process.communicate()
    assert not output.exists()
    code, _, err = ended(started(repository, data, output))
    assert code == 3, err
    assert pq.read_metadata(output).num_rows == 40_000 - len(range(0, 40_000, 97))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"in", "out.parquet", "out.parquet.quarantine.ndjson"}
