"""The harness measures servers under loads: one server at a time, each on a core of its own.

The server runs on one core, what sends the load on another. Rounds go round-robin over the
servers, each started fresh, so that whatever drifts on the machine hits all alike; the median
over the rounds is what counts. Before anything is measured, and after it, the answers are
checked.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import processes
from benchmarks.answers import says
from benchmarks.loads import HTTP, Load, ask, client, is_ready

SERVER_CORE, LOAD_CORE = 0, 1  # of those this process may use, in their order
READY_WITHIN_S = 60.0
LONGEST_S = 600
QUIET_WITHIN_S = 30.0
STOPPED_WITHIN_S = 20.0


class BenchFailed(Exception):
    """The benchmark cannot go on, or its numbers would be wrong; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server to measure: how it is started, and the URL that says when it is ready.

    See `loads.is_ready`. `speaks`: it gets the loads of these protocols. `echoes`: its right
    answer is what it was sent.
    """

    name: str
    argv: tuple[str, ...]
    ready_url: str
    env: Mapping[str, str] = field(default_factory=dict)
    speaks: tuple[str, ...] = (HTTP,)
    echoes: bool = False

    @property
    def root_url(self) -> str:
        """Where its paths start."""
        return f"http://{urlsplit(self.ready_url).netloc}"


@dataclass(frozen=True, slots=True)
class Script:
    """A program that does a load's work without a server, on the server's core.

    It gets the body in the file $BODY, works for $SECONDS, writes its answer to the file
    $ANSWER, and prints what it measured as one JSON line, as post.lua does, with `cpu_s` and
    `rss_mib`.
    """

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one server did under one load; `cpu_us` is CPU microseconds per request.

    `others_percent` of the server's core went to somebody else meanwhile.
    """

    server: str
    load: str
    cpu_us: float
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    rss_mib: float
    others_percent: float = 0.0


def find_tool(name: str) -> str | None:
    """Where the program `name` is; Debian keeps nginx where only root's PATH looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def require_tools() -> None:
    """Raises BenchFailed when the machine lacks what the benchmark needs."""
    tools = ("nginx", "wrk", "h2load", "taskset")
    missing = [tool for tool in tools if find_tool(tool) is None]
    if missing:
        raise BenchFailed(
            f"{' and '.join(missing)} not found; the benchmark needs Linux with the Debian "
            "packages nginx, wrk, nghttp2-client and util-linux"
        )
    if len(os.sched_getaffinity(0)) < 2:
        raise BenchFailed("the benchmark needs two cores: one for the server, one for the load")


def _core(which: int) -> int:
    return sorted(os.sched_getaffinity(0))[which]


def pinned(which: int) -> list[str]:
    """The words before a command that keep it on one core: SERVER_CORE or LOAD_CORE."""
    return ["taskset", "-c", str(_core(which))]


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is ready: its pid, and how long it took from its start on."""

    pid: int
    seconds: float


@contextmanager
def running(server: Server, log: Path) -> Iterator[int]:
    """The pid of `server`, started and ready; it is stopped on the way out."""
    with started(server, log) as told:
        yield told.pid


@contextmanager
def started(server: Server, log: Path) -> Iterator[Started]:
    """`server`, started and ready; it is stopped on the way out."""
    began = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*pinned(SERVER_CORE), *server.argv],
            env={**os.environ, **server.env},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, process, log)
        yield Started(process.pid, time.perf_counter() - began)
    finally:
        _stop(server, process)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise BenchFailed(f"{server.name} did not start: " + "\n".join(last))
        try:
            if is_ready(server.ready_url):
                return
        except OSError:  # not listening yet
            pass
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


def check_answer(server: Server, load: Load) -> int:
    """How long the right answer is. Raises BenchFailed when `server` gives another one."""
    reply = ask(server.root_url, load)
    if not reply.fine or not (
        reply.body == load.body if server.echoes else load.is_right(reply.body)
    ):
        raise BenchFailed(
            f"{server.name} gave a wrong answer to {load.name!r}: "
            f"{reply.status} {reply.body[:300]!r}"
        )
    return len(reply.body)


def measure(server: Server, pid: int, load: Load, *, wait: bool = True) -> Measurement:
    """One measured stretch of `load`, `wait`ing until the server has finished what was before.

    Raises BenchFailed when a request failed.
    """
    if wait:
        wait_until_quiet(server, pid)
    before = processes.cpu_seconds(pid)
    with sharing(lambda: processes.cpu_seconds(pid)) as others:
        with _sending(server, load, load.seconds) as (process, told):
            process.wait(LONGEST_S)
        used = processes.cpu_seconds(pid) - before
    found = _measurement(server.name, load, told, used, processes.largest_rss_mib(pid))
    return replace(found, others_percent=others[0])


@contextmanager
def sharing(used: Callable[[], float]) -> Iterator[list[float]]:
    """What others than who `used` so many CPU seconds took of the server's core, in per cent.

    It is in the list when the block has ended.
    """
    core, found = _core(SERVER_CORE), list[float]()
    began, before = time.monotonic(), processes.busy_seconds(core) - used()
    yield found
    others = processes.busy_seconds(core) - used() - before
    found.append(max(others, 0.0) / (time.monotonic() - began) * 100)


def _of_children() -> float:
    """CPU seconds of this process's children that ended."""
    told = os.times()
    return told.children_user + told.children_system


@contextmanager
def under(server: Server, load: Load) -> Iterator[None]:
    """`load` goes on as long as the block does. Raises BenchFailed when a request failed."""
    with _sending(server, load, LONGEST_S) as (process, told):
        yield
        process.send_signal(signal.SIGINT)  # it ends early, and tells as always
    _measurement(server.name, load, told, 0.0, 0.0)


def measure_script(script: Script, load: Load) -> Measurement:
    """What `script` tells of `load`. Raises BenchFailed when its answer is wrong."""
    with tempfile.TemporaryDirectory() as name:
        body, answer = Path(name, "body"), Path(name, "answer")
        body.write_bytes(load.body)
        env = {"BODY": str(body), "ANSWER": str(answer), "SECONDS": str(load.seconds)}
        with sharing(_of_children) as others:
            done = subprocess.run(
                [*pinned(SERVER_CORE), *script.argv],
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise BenchFailed(f"{script.name} failed: {done.stderr.strip()}")
        if not says(answer.read_bytes(), load.answer):
            raise BenchFailed(f"{script.name} gave a wrong answer to {load.name!r}")
    told: dict[str, Any] = json.loads(done.stdout)
    found = _measurement(script.name, load, told, told["cpu_s"], told["rss_mib"])
    return replace(found, others_percent=others[0])


def _measurement(
    who: str, load: Load, told: dict[str, Any], cpu_s: float, rss_mib: float
) -> Measurement:
    if told["refused"] or told["broken"] or not told["requests"]:
        raise BenchFailed(f"{who} failed requests of {load.name!r}: {told}")
    return Measurement(
        who,
        load.name,
        cpu_us=cpu_s / told["requests"] * 1e6,
        requests_per_s=told["requests"] / told["seconds"],
        p50_ms=told["p50_us"] / 1e3,
        p90_ms=told["p90_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        rss_mib=rss_mib,
    )


def wait_until_quiet(server: Server, pid: int) -> None:
    """Return when what the last load left in the server's queue is worked off."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    used = processes.cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        before, used = used, processes.cpu_seconds(pid)
        if used == before:
            return
    raise BenchFailed(f"{server.name} was still busy {QUIET_WITHIN_S:.0f} s after its last request")


@contextmanager
def _sending(
    server: Server, load: Load, seconds: float
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A client that is at it, and what it tells: filled in when it has ended, after the block."""
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = folder / "body"
        body.write_bytes(load.sent)
        sender = client(server.root_url + load.path, load, seconds, folder)
        process = subprocess.Popen(
            [*pinned(LOAD_CORE), *sender.argv],
            env={**os.environ, "BODY": str(body), "METHOD": load.method},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process, told
            output, complaint = process.communicate(timeout=LONGEST_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise BenchFailed(f"sending {load.name!r} failed: {complaint.strip()}")
        told.update(sender.told(output))


def run_rounds(
    servers: Sequence[Server | Script],
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
            if isinstance(server, Script):
                found += [measure_script(server, load) for load in loads]
            else:
                found += _visit(server, loads, warm_up_s, logs)
    return found


def _visit(
    server: Server, loads: Sequence[Load], warm_up_s: float, logs: Path
) -> list[Measurement]:
    """Start, check, warm, measure, check again, stop."""
    loads = [load for load in loads if load.protocol in server.speaks]
    with running(server, logs / f"{server.name.replace(' ', '-')}.log") as pid:
        loads = [replace(load, answer_bytes=check_answer(server, load)) for load in loads]
        measure(server, pid, replace(loads[0], name="warm-up", connections=8, seconds=warm_up_s))
        found = [measure(server, pid, load) for load in loads]
        wait_until_quiet(server, pid)  # wrk and h2load leave without their last answers
        for load in loads:
            check_answer(server, load)
    return found
