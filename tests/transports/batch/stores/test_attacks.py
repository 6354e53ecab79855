"""Jobs under attack: killed, asleep, doubled, without disk, without store. Real processes."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.transports.batch.stores.conftest import library, new_folder
from tests.transports.batch.stores.jobs import brought, ended, result, started, until
from tests.transports.batch.stores.servers import BUCKET, StoreServer, running, seaweed
from tests.transports.batch.test_killing import data_set

pytestmark = pytest.mark.slow

ROWS = 20_000
PARTS = 74


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("attacks") / "in", "parquet", ROWS)


@pytest.fixture(scope="module")
def whole(repository: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """What comes out when nothing happens."""
    output = tmp_path_factory.mktemp("attacks") / "whole"
    code, _, err = ended(started(repository, data, output))
    assert code == 3, err
    return result(output)


class Bucket:
    """What lies below a URL, as a reader of the store sees it."""

    def __init__(self, server: StoreServer, url: str) -> None:
        self.url = url
        self._library: Any = library(server)
        self._key = url.partition("://")[2]

    def count(self, below: str) -> int:
        return len(self._library.find(f"{self._key}/{below}"))

    def parts_done(self) -> int:
        return self.count("_foretell/done")

    def visible(self) -> list[str]:
        names = (key.removeprefix(f"{self._key}/") for key in self._library.find(self._key))
        return [name for name in names if not name.startswith("_")]

    def check_parts(self) -> None:
        """Whatever can be seen of a job that was killed can be read, to its end."""
        for name in self.visible():
            with self._library.open(f"{self._key}/{name}") as file:
                assert pq.read_table(file).num_rows > 0

    def result(self, folder: Path) -> object:
        return result(brought(self._library, self.url, folder))


def test_a_job_on_s3_that_is_killed_at_random_moments_ends_as_one_that_was_not(
    repository: Path, data: Path, whole: object, s3: StoreServer, tmp_path: Path
) -> None:
    draw = random.Random(17)
    bucket = Bucket(s3, new_folder(s3))
    killed = 0
    for _ in range(6):
        process = started(repository, data, bucket.url, "--threads", "1")
        goal = bucket.parts_done() + draw.randint(1, 4)
        if until(process, lambda goal=goal: bucket.parts_done() >= goal, 0.01):  # type: ignore[misc] # mypy does not infer a default
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.random() * 0.1)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        bucket.check_parts()
        assert "_SUCCESS" not in bucket.visible()
    assert killed >= 4, "it was over too soon"
    code, out, err = ended(started(repository, data, bucket.url))
    assert code == 3, err
    told = json.loads(out)
    assert (told["parts"], told["rows_in"]) == (PARTS, ROWS)
    assert 4 <= told["parts_before"] < PARTS
    assert bucket.result(tmp_path) == whole
    assert len(_leases(s3, bucket.url)) == 1


def test_a_job_on_s3_that_is_stopped_gives_its_output_back_at_once(
    repository: Path, data: Path, whole: object, s3: StoreServer, tmp_path: Path
) -> None:
    bucket = Bucket(s3, new_folder(s3))
    process = started(repository, data, bucket.url)
    assert until(process, lambda: bucket.parts_done() > 2, 0.01)
    process.terminate()
    code, _, err = ended(process)
    assert code == 128 + signal.SIGTERM, err
    assert "the same command goes on from there" in err
    lease = next(iter(json.loads(text) for text in _leases(s3, bucket.url).values()))
    assert lease["free"] is True
    code, out, err = ended(started(repository, data, bucket.url))
    assert code == 3, err
    assert json.loads(out)["parts_before"] > 2
    assert bucket.result(tmp_path) == whole


def _leases(server: StoreServer, url: str) -> dict[str, bytes]:
    files: Any = library(server)
    return {
        key: files.cat_file(key) for key in files.find(f"{url.partition('://')[2]}/_foretell/lease")
    }


@pytest.mark.parametrize("where", ["local", "s3", "single file", "single file on s3"])
def test_of_two_jobs_on_one_output_one_runs(
    repository: Path, data: Path, whole: object, s3: StoreServer, tmp_path: Path, where: str
) -> None:
    name = "out.parquet" if "single" in where else "out"
    output = f"{new_folder(s3)}/{name}" if "s3" in where else str(tmp_path / name)
    processes = [started(repository, data, output, "--threads", "1") for _ in range(2)]
    codes, outs, errs = zip(*map(ended, processes), strict=True)
    assert sorted(codes) == [1, 3], errs
    refused = errs[codes.index(1)]
    assert "another job (process" in refused
    assert "is running on" in refused
    assert json.loads(outs[codes.index(3)])["parts"] == PARTS
    if "single" not in where:
        local = tmp_path / "brought" if "s3" in where else Path(output)
        if "s3" in where:
            brought(library(s3), output, local)
        assert result(local) == whole


def test_a_job_on_s3_that_fell_asleep_stops_when_another_has_taken_over(
    repository: Path, data: Path, whole: object, s3: StoreServer, tmp_path: Path
) -> None:
    bucket = Bucket(s3, new_folder(s3))
    first = started(repository, data, bucket.url)
    assert until(first, lambda: bucket.parts_done() > 2, 0.01)
    first.send_signal(signal.SIGSTOP)
    second = started(repository, data, bucket.url)
    code, out, err = ended(second)
    assert code == 3, err
    assert json.loads(out)["parts_before"] > 2
    first.send_signal(signal.SIGCONT)
    code, _, err = ended(first)
    assert code == 1, err
    assert f"another job has taken over {bucket.url}" in err
    assert "Traceback" not in err
    assert bucket.result(tmp_path) == whole


def test_a_job_whose_store_vanishes_ends_with_a_sentence_and_goes_on_later(
    repository: Path, data: Path, whole: object, tmp_path: Path
) -> None:
    server = seaweed(tmp_path / "seaweed")
    with running(server):
        library(server).mkdir(BUCKET)
        bucket = Bucket(server, f"s3://{BUCKET}/out")
        for path in data.iterdir():
            library(server).put_file(str(path), f"{BUCKET}/in/{path.name}")
        # Its own retries are few, so that the test is short.
        patience = {"AWS_MAX_ATTEMPTS": "2"}
        hurried = StoreServer(**{**vars(server), "environ": {**server.environ, **patience}})
        process = started(repository, f"s3://{BUCKET}/in", bucket.url, server=hurried)
        assert until(process, lambda: bucket.parts_done() > 10, 0.01)
        server.kill()
        code, out, err = ended(process)
        assert code == 1, err
        assert "did not answer" in err
        assert "give the same command again" in err
        assert "Traceback" not in err
        assert json.loads(out)["code"] == "store_failed"
        server.start()
        assert 10 < bucket.parts_done() < PARTS
        code, out, err = ended(started(repository, f"s3://{BUCKET}/in", bucket.url, server=server))
        assert code == 3, err
        assert json.loads(out)["parts_before"] > 10
        assert _without_files(bucket.result(tmp_path / "got")) == _without_files(whole)


def _without_files(told: Any) -> object:
    """Quarantined rows tell the file that they were in, which lies elsewhere here."""
    rows = {}
    for name, text in told.items():
        if isinstance(text, str):
            lines = [json.loads(line) for line in text.splitlines()]
            rows[name] = [line | {"file": Path(line["file"]).name} for line in lines]
    return told | rows


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"a small disk needs root: {made.stderr}"
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("name", ["out", "out.parquet", "out.csv.gz"])
def test_a_full_disk_ends_a_job_with_a_sentence_and_it_goes_on_when_there_is_room(
    repository: Path, data: Path, whole: object, tmp_path: Path, name: str
) -> None:
    code, _, err = ended(started(repository, data, tmp_path / name))
    assert code == 3, err
    with small_disk(tmp_path / "disk", "600k") as disk:
        output = disk / name
        code, out, err = ended(started(repository, data, output))
        assert code == 1, err
        assert "has no space left: make room, and give the same command again" in err
        assert str(disk) in err
        assert "Traceback" not in err
        assert json.loads(out)["code"] == "store_failed"
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        code, out, err = ended(started(repository, data, output))
        assert code == 3, err
        assert 0 < json.loads(out)["parts_before"] < PARTS
        if name == "out":
            assert result(output) == whole
        else:
            assert not list(disk.glob(".*"))
