"""The harness measures servers under loads: one server at a time, each on a core of its own.

The server runs on one core, wrk on another. Rounds go round-robin over the servers, each
started fresh, so that whatever drifts on the machine hits all alike; the median over the
rounds is what counts. Before anything is measured, the answers are checked.
"""

import http.client
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import processes

READY_WITHIN_S = 60.0
QUIET_WITHIN_S = 30.0
STOPPED_WITHIN_S = 20.0
_SCRIPT = Path(__file__).with_name("post.lua")


class BenchFailed(Exception):
    """The benchmark cannot go on, or its numbers would be wrong; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server to measure: how it is started, and the URL that answers 200 when it is ready."""

    name: str
    argv: tuple[str, ...]
    ready_url: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def root_url(self) -> str:
        """Where its paths start."""
        parts = urlsplit(self.ready_url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent to every server: one POST, over `connections` at once for `seconds`.

    `answer` is the JSON that every server has to give; its numbers may be off by 1e-6.
    """

    name: str
    path: str
    body: bytes
    connections: int
    seconds: float
    answer: Any = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one server did under one load; `cpu_us` is CPU microseconds per request."""

    server: str
    load: str
    cpu_us: float
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    rss_mib: float


def find_tool(name: str) -> str | None:
    """Where the program `name` is; Debian keeps nginx where only root's PATH looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def require_tools() -> None:
    """Raises BenchFailed when the machine lacks what the benchmark needs."""
    missing = [tool for tool in ("nginx", "wrk", "taskset") if find_tool(tool) is None]
    if missing:
        raise BenchFailed(
            f"{' and '.join(missing)} not found; the benchmark needs Linux with the Debian "
            "packages nginx, wrk and util-linux"
        )
    if len(os.sched_getaffinity(0)) < 2:
        raise BenchFailed("the benchmark needs two cores: one for the server, one for wrk")


def _pinned(which: int) -> list[str]:
    return ["taskset", "-c", str(sorted(os.sched_getaffinity(0))[which])]


@contextmanager
def running(server: Server, log: Path) -> Iterator[int]:
    """The pid of `server`, started and ready; it is stopped on the way out."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_pinned(0), *server.argv],
            env={**os.environ, **server.env},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, process, log)
        yield process.pid
    finally:
        _stop(server, process)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise BenchFailed(f"{server.name} did not start: " + "\n".join(last))
        try:
            if _ask(server, "GET", server.ready_url, None)[0] == 200:
                return
        except OSError:  # not listening yet
            time.sleep(0.02)
    raise BenchFailed(f"{server.name} was not ready within {READY_WITHIN_S:.0f} s")


def _stop(server: Server, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        for member in processes.tree(process.pid):
            os.kill(member.pid, signal.SIGKILL)
        process.wait()
        raise BenchFailed(f"{server.name} did not stop within {STOPPED_WITHIN_S:.0f} s") from None


def _ask(server: Server, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def check_answer(server: Server, load: Load) -> None:
    """Raises BenchFailed when `server` does not give the right answer."""
    status, body = _ask(server, "POST", server.root_url + load.path, load.body)
    if status != 200 or (load.answer is not None and not _same(json.loads(body), load.answer)):
        raise BenchFailed(f"{server.name} gave a wrong answer: {status} {body[:300]!r}")


def _same(told: Any, expected: Any) -> bool:
    match expected:
        case dict():
            keys = isinstance(told, dict) and told.keys() == expected.keys()
            return keys and all(_same(told[key], expected[key]) for key in expected)
        case list():
            length = isinstance(told, list) and len(told) == len(expected)
            return length and all(map(_same, told, expected))
        case float():
            return isinstance(told, float) and math.isclose(told, expected, abs_tol=1e-6)
        case _:
            return bool(told == expected)


def measure(server: Server, pid: int, load: Load) -> Measurement:
    """One measured stretch of `load`. Raises BenchFailed when a request failed."""
    _wait_until_quiet(server, pid)
    before = processes.cpu_seconds(pid)
    told = _wrk(server, load)
    used = processes.cpu_seconds(pid) - before
    if told["refused"] or told["broken"] or not told["requests"]:
        raise BenchFailed(f"{server.name} failed requests of {load.name!r}: {told}")
    return Measurement(
        server.name,
        load.name,
        cpu_us=used / told["requests"] * 1e6,
        requests_per_s=told["requests"] / told["seconds"],
        p50_ms=told["p50_us"] / 1e3,
        p90_ms=told["p90_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        rss_mib=processes.largest_rss_mib(pid),
    )


def _wait_until_quiet(server: Server, pid: int) -> None:
    """Return when what the last load left in the server's queue is worked off."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    used = processes.cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        before, used = used, processes.cpu_seconds(pid)
        if used == before:
            return
    raise BenchFailed(f"{server.name} was still busy {QUIET_WITHIN_S:.0f} s after its last request")


def _wrk(server: Server, load: Load) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as body:
        body.write(load.body)
        body.flush()
        argv = [*_pinned(1), "wrk", "--threads", "1", "--connections", str(load.connections)]
        argv += ["--duration", f"{math.ceil(load.seconds)}s", "--timeout", "10s", "--latency"]
        argv += ["--script", str(_SCRIPT), server.root_url + load.path]
        env = {**os.environ, "BODY": body.name}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"wrk failed: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def run_rounds(
    servers: Sequence[Server],
    loads: Sequence[Load],
    *,
    rounds: int,
    warm_up_s: float,
    logs: Path,
    tell: Callable[[str], None],
) -> list[Measurement]:
    """Every measurement of `rounds` rounds; each round begins with another server."""
    found: list[Measurement] = []
    for number in range(rounds):
        first = number % len(servers)
        for server in (*servers[first:], *servers[:first]):
            tell(f"round {number + 1} of {rounds}: {server.name}")
            with running(server, logs / f"{server.name.replace(' ', '-')}.log") as pid:
                warm_up = Load("warm-up", loads[0].path, loads[0].body, 8, warm_up_s)
                for load in loads:
                    check_answer(server, load)
                measure(server, pid, warm_up)
                found += [measure(server, pid, load) for load in loads]
    return found


def medians(found: Sequence[Measurement]) -> list[Measurement]:
    """One measurement a server and load: the median of each number over the rounds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in found:
        groups.setdefault((one.server, one.load), []).append(asdict(one))
    return [
        Measurement(
            *key,
            **{
                name: statistics.median(one[name] for one in group)
                for name in group[0]
                if name not in ("server", "load")
            },
        )
        for key, group in groups.items()
    ]
