"""Whole jobs on stores, in this process: every form in and out, and what is said when it fails."""

from __future__ import annotations

import gzip
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.errors import ForetellError, InvalidInput, JobRefused, StoreFailed
from foretell.transports.batch.storage import open_store
from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import FORMS, answers, write, written
from tests.transports.batch.stores.conftest import Started, library, new_folder
from tests.transports.batch.stores.jobs import brought
from tests.transports.batch.stores.servers import ROOT, StoreServer
from tests.transports.batch.stores.test_attacks import small_disk

pytestmark = pytest.mark.slow

ROWS = 300


def carried(server: StoreServer, path: Path, url: str) -> str:
    """A file, copied into a store; its URL."""
    library(server).put_file(str(path), f"{url.partition('://')[2]}/{path.name}")
    return f"{url}/{path.name}"


@pytest.fixture(scope="module")
def local(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What comes out on this machine."""
    folder = tmp_path_factory.mktemp("store-jobs")
    path = write(arrow(ROWS), folder / "in.parquet")
    foretell.batch(repository, path, folder / "out", part_rows=60)
    return answers(written(folder / "out"))


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_job_goes_from_a_store_to_itself(
    repository: Path, started: Started, local: Any, tmp_path: Path, scheme: str
) -> None:
    server = started(scheme)
    base = new_folder(server)
    carried(server, write(arrow(ROWS), tmp_path / "in.parquet"), f"{base}/in")
    report = foretell.batch(repository, f"{base}/in", f"{base}/out", part_rows=60, threads=3)
    assert (report.rows_scored, report.output) == (ROWS, f"{base}/out")
    got = brought(library(server), f"{base}/out", tmp_path / "got")
    assert answers(written(got)) == local
    assert (got / "_SUCCESS").exists()
    again = foretell.batch(repository, f"{base}/in", f"{base}/out", part_rows=60)
    assert (again.parts, again.parts_before) == (report.parts, report.parts)
    one = foretell.batch(repository, f"{base}/in/*.parquet", f"{base}/one.parquet", part_rows=60)
    assert one.rows_scored == ROWS
    names = {name.partition("/")[0] for name in open_store(base).names()}
    assert names == {"in", "out", "one.parquet"}
    library(server).get_file(f"{base.partition('://')[2]}/one.parquet", str(tmp_path / "one"))
    assert answers(pq.read_table(tmp_path / "one")) == local


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_from_s3(
    repository: Path, s3: StoreServer, local: Any, tmp_path: Path, form: str
) -> None:
    url = carried(s3, write(arrow(ROWS), tmp_path / f"in.{form}"), new_folder(s3))
    foretell.batch(repository, url, tmp_path / "out", part_rows=50, batch_rows=20)
    assert answers(written(tmp_path / "out")) == local


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz", "ndjson", "arrow"])
def test_a_single_file_of_every_form_appears_in_s3(
    repository: Path, s3: StoreServer, tmp_path: Path, form: str
) -> None:
    path = write(arrow(ROWS), tmp_path / "in.parquet")
    base = new_folder(s3)
    foretell.batch(repository, path, f"{base}/out.{form}", part_rows=60)
    assert list(open_store(base).names()) == [f"out.{form}"]
    assert _n_rows(form, open_store(base).read(f"out.{form}")) == ROWS


def _n_rows(form: str, body: bytes) -> int:
    if form == "parquet":
        return int(pq.read_metadata(pa.BufferReader(body)).num_rows)
    if form == "arrow":
        return int(pa.ipc.open_file(body).read_all().num_rows)
    text = gzip.decompress(body) if form.endswith("gz") else body
    return len(text.splitlines()) - form.startswith("csv")


def test_another_days_job_overwrites_when_it_may(
    repository: Path, s3: StoreServer, tmp_path: Path
) -> None:
    base = new_folder(s3)
    carried(s3, write(arrow(ROWS), tmp_path / "in.parquet"), f"{base}/in")
    foretell.batch(repository, f"{base}/in", f"{base}/out", part_rows=60)
    carried(s3, write(arrow(50), tmp_path / "in.parquet"), f"{base}/in")
    with pytest.raises(JobRefused, match=r"in\.parquet was written anew\. .*--overwrite"):
        foretell.batch(repository, f"{base}/in", f"{base}/out", part_rows=60)
    report = foretell.batch(repository, f"{base}/in", f"{base}/out", part_rows=60, overwrite=True)
    assert report.rows_scored == 50
    got = brought(library(s3), f"{base}/out", tmp_path / "got")
    assert written(got)["id"].to_pylist() == list(range(50))


@contextmanager
def told(kind: type[ForetellError], words: str) -> Iterator[None]:
    with pytest.raises(kind, match=re.escape(words)) as failed:
        yield
    assert "\n" not in failed.value.message


def test_a_bucket_that_is_not_there_is_told(
    repository: Path, started: Started, tmp_path: Path
) -> None:
    path = write(arrow(5), tmp_path / "in.parquet")
    for scheme in ("s3", "gs", "az"):
        started(scheme)
        with told(StoreFailed, "is in no bucket that exists: make it, or correct the name"):
            foretell.batch(repository, path, f"{scheme}://nobody/out")
        kind = InvalidInput if scheme == "az" else StoreFailed
        with told(kind, "://nobody/in "):
            foretell.batch(repository, f"{scheme}://nobody/in", tmp_path / "out")


def test_missing_rights_are_told(
    repository: Path, s3: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(arrow(5), tmp_path / "in.parquet")
    base = new_folder(s3)
    url = carried(s3, path, base)
    kind = type(library(s3))
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": "reader", "secret": "reader-secret"})
    with told(StoreFailed, "may not be written: give credentials that allow it (Access Denied"):
        foretell.batch(repository, url, f"{base}/out")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": "nobody", "secret": "wrong"})
    with told(StoreFailed, "credentials that allow it"):
        foretell.batch(repository, url, tmp_path / "out")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": "http://127.0.0.1:1"})
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with told(StoreFailed, "did not answer (Could not connect to the endpoint"):
        foretell.batch(repository, url, tmp_path / "out")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"use_ssl": False})
    with told(StoreFailed, "credentials that allow it (Unable to locate credentials)"):
        foretell.batch(repository, url, tmp_path / "out")
    assert kind is type(library(s3))


@pytest.mark.parametrize(("scheme", "module"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_missing_library_is_told(repository: Path, scheme: str, module: str) -> None:
    run = f"import sys; sys.modules[{module!r}] = None; from foretell.app.cli import main; main()"
    command = [sys.executable, "-c", run, "batch", str(repository), f"{scheme}://bucket/in", "out"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"{scheme}:// needs {module}: install foretell[{scheme}]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_disk_that_may_not_be_written_is_told(repository: Path, tmp_path: Path) -> None:
    path = write(arrow(5), tmp_path / "in.parquet")
    with small_disk(tmp_path / "disk", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with told(StoreFailed, "may not be written: give this user the right to (Read-only file"):
            foretell.batch(repository, path, disk / "out")
    (tmp_path / "file").write_text("no folder")
    with told(StoreFailed, "/file is a file"):
        foretell.batch(repository, path, tmp_path / "file" / "out")


def test_the_page_tells_what_works(repository: Path, started: Started, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    path = write(arrow(20), tmp_path / "customers.parquet")
    (tmp_path / "models").symlink_to(repository)
    for scheme in ("s3", "gs", "az"):
        files: Any = library(started(scheme))
        files.mkdir("lake")
        files.put_file(str(path), "lake/customers/customers.parquet")
    lines = text.splitlines()
    assert len(lines) == 4
    for line in lines:
        command = [sys.executable, "-m", *shlex.split(line)]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (line, ended.stderr)
    assert (tmp_path / "scored-here.csv").exists()
    assert open_store("gs://lake").read("scored.parquet").startswith(b"PAR1")
    for place in ("s3://lake/scored", "az://lake/scored"):
        assert "_SUCCESS" in open_store(place).names()
