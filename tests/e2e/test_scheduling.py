"""Under many connections the server's I/O threads wait for their turn; afterwards no more."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.test_load import descendants, until
from tests.servers import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such policy"),
]
CONNECTIONS = 64
ROW = json.dumps({"age": 35, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572})


@contextmanager
def crowd(url: str) -> Iterator[None]:
    """Connections that ask all at once, again and again; every answer has to be one."""
    enough, failures = threading.Event(), list[object]()

    def ask() -> None:
        connections = [HTTPConnection(urlsplit(url).netloc, timeout=30) for _ in range(CONNECTIONS)]
        while not enough.is_set() and not failures:
            for one in connections:
                one.request("POST", "/predict", ROW, {"Content-Type": "application/json"})
            for one in connections:
                answer = one.getresponse()
                if answer.status != 200:
                    failures.append(answer.read())
                answer.read()
        for one in connections:
            one.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
    assert not failures


def policies(worker: int) -> dict[str, set[int]]:
    """The scheduling policies of a worker's threads, by whether it is the one that runs Python."""
    found: dict[str, set[int]] = {"loop": set(), "io": set()}
    for task in Path(f"/proc/{worker}/task").iterdir():
        kind = "loop" if int(task.name) == worker else "io"
        found[kind].add(os.sched_getscheduler(int(task.name)))
    return found


def test_io_threads_wait_for_their_turn_while_requests_crowd_in(churn: Path) -> None:
    usual, batch = os.SCHED_OTHER, os.SCHED_BATCH
    with running(churn) as server:
        (worker,) = descendants(server.process.pid)
        assert policies(worker) == {"loop": {usual}, "io": {usual}}
        with crowd(server.url):
            until(lambda: batch in policies(worker)["io"])
            assert policies(worker)["loop"] == {usual}
        until(lambda: policies(worker) == {"loop": {usual}, "io": {usual}})
