"""`foretell batch` in processes of its own, on folders and on stores, and what it left there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.transports.batch.stores.servers import StoreServer

KEPT_OUT = "predicted_at"
ENDED_S = 120
LEASE_S = 3.0
# As `foretell`, but a lease that a killed job leaves is over soon.
_SHORT_LEASE = f"""
from foretell.transports.batch.storage import leases, objects
objects.ObjectStore.__init__.__defaults__ = ({LEASE_S},)
from foretell.app.cli import main
main()
"""


def started(
    repository: Path, data: object, output: object, *more: str, server: StoreServer | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SHORT_LEASE, "batch", repository, data, output]
    options = ["--part-rows", "250", "--batch-rows", "50", "--on-bad-row", "quarantine", "--json"]
    environ = {**os.environ, **(server.environ if server is not None else {})}
    return subprocess.Popen(
        [*map(str, command), *options, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=ENDED_S)
    return process.returncode, out, err


def until(process: subprocess.Popen[str], happened: Callable[[], bool], every_s: float) -> bool:
    """Until something has happened, or the process has ended; whether it still runs."""
    while not happened():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(every_s)
            return False
    return True


def result(output: Path) -> dict[str, object]:
    """All that a job has written for its readers, by file."""
    told: dict[str, object] = {}
    for path, name in _files(output):
        if path.suffix == ".parquet":
            told[name] = pq.read_table(path).drop_columns([KEPT_OUT]).to_pydict()
        elif name.startswith("_quarantine/"):
            told[name] = path.read_text()
    return told


def _files(output: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(output.rglob("*")):
        if path.is_file():
            yield path, path.relative_to(output).as_posix()


def brought(library: Any, url: str, folder: Path) -> Path:
    """A folder of a store, copied to this machine."""
    root = url.partition("://")[2]
    for key in library.find(root):
        path = folder / key.removeprefix(f"{root}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(library.cat_file(key))
    return folder
