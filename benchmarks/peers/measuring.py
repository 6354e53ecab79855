"""A contestant is one server with one kind of model; all are measured in rounds.

Unlike the harness's own servers, a peer may fail, leave processes behind, or have processes in
sessions of their own. What fails is recorded and the others go on. This process adopts orphans
(Linux's child subreaper), so that whatever a peer leaves behind is found and ended by its pid.
"""

import ctypes
import http.client
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import processes
from benchmarks.harness import BenchFailed, Measurement, Server, measure, running
from benchmarks.loads import Load
from benchmarks.peers.table import Answer, load_name

ANSWERS_WITHIN_S = 30.0
ENDS_WITHIN_S = 5.0
WARM_UP_S = 2
TOLERANCE = 1e-6
"""Both kinds of the model compute in float64."""

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server, how it is asked, and how its answer is read."""

    server: Server
    path: str
    body: bytes
    read: Callable[[Any], Answer]

    def load(self, connections: int, seconds: int) -> Load:
        """Its one-row request over `connections` at once."""
        return Load(load_name(connections), self.path, self.body, connections, seconds)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with a server in a round."""

    server: str
    round: int
    says: str


def run_rounds(
    contestants: Sequence[Contestant],
    right: Answer,
    *,
    connections: Sequence[int],
    rounds: int,
    seconds: int,
    logs: Path,
    tell: Callable[[str], None],
) -> tuple[list[Measurement], list[Failure]]:
    """Every measurement and every failure; each round begins with another contestant."""
    adopt_orphans()
    found: list[Measurement] = []
    failures: list[Failure] = []
    for number in range(rounds):
        first = number % len(contestants)
        for one in (*contestants[first:], *contestants[:first]):
            name = one.server.name
            tell(f"round {number + 1} of {rounds}: {name}")
            try:
                with served(one.server, logs / f"{name.replace(', ', '-')}.log") as pid:
                    check(one, right)
                    _measure(one.server, pid, one.load(8, WARM_UP_S))
                    loads = [one.load(n, seconds) for n in connections]
                    found.extend(_measure(one.server, pid, load) for load in loads)
            except BenchFailed as error:
                tell(f"{name}: {error}")
                failures.append(Failure(name, number + 1, str(error)))
    return found, failures


def _measure(server: Server, pid: int, load: Load) -> Measurement:
    """One measurement; memory is that of the whole tree, as most peers are several processes."""
    measured = measure(server, pid, load)
    tree = processes.tree(pid)
    strays = {one.pid for one in _offspring()} - {one.pid for one in tree}
    if strays:
        raise BenchFailed(f"{server.name} has processes that were not counted: {sorted(strays)}")
    return replace(measured, rss_mib=sum(one.rss for one in tree) / 2**20)


def check(contestant: Contestant, right: Answer) -> None:
    """Return when it answers. Raises BenchFailed when the answer is wrong or none comes in time."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    said = "nothing"
    while time.monotonic() < deadline:
        try:
            status, body = _ask(contestant)
        except (OSError, http.client.HTTPException) as error:  # its front is up, its worker is not
            said = repr(error)
        else:
            said = f"{status} {body[:300]!r}"
            if status == 200 and same(contestant.read(json.loads(body)), right):
                return
            if status < 500:
                raise BenchFailed(f"{contestant.server.name} gave a wrong answer: {said}")
        time.sleep(0.1)
    raise BenchFailed(f"{contestant.server.name} gave no right answer in time, but {said}")


def same(told: Answer, right: Answer) -> bool:
    """Whether the label is the same and the probabilities are within the tolerance."""
    return (
        told[0] == right[0]
        and len(told[1]) == len(right[1])
        and all(
            math.isclose(a, b, abs_tol=TOLERANCE) for a, b in zip(told[1], right[1], strict=True)
        )
    )


def _ask(contestant: Contestant) -> tuple[int, bytes]:
    netloc = urlsplit(contestant.server.ready_url).netloc
    connection = http.client.HTTPConnection(netloc, timeout=10)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", contestant.path, contestant.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextmanager
def served(server: Server, log: Path) -> Iterator[int]:
    """The pid of `server`, started and ready; nothing that it started is left afterwards."""
    try:
        with running(server, log) as pid:
            yield pid
    finally:
        end_offspring()


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise BenchFailed(f"prctl: {os.strerror(ctypes.get_errno())}")


def end_offspring() -> None:
    """End and reap every descendant of this process, first kindly. Raises BenchFailed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + ENDS_WITHIN_S
        asked: set[int] = set()
        while time.monotonic() < deadline:
            _reap()
            offspring = _offspring()
            if not offspring:
                return
            for one in offspring:
                if one.pid not in asked:
                    asked.add(one.pid)
                    _signal(one.pid, number)
            time.sleep(0.05)
    raise BenchFailed(f"these processes did not end: {[one.pid for one in _offspring()]}")


def _offspring() -> list[processes.Process]:
    """The descendants of this process that it could leave behind."""
    return [one for one in processes.tree(os.getpid()) if one.pid != os.getpid()]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.kill(pid, number)


def _reap() -> None:
    with suppress(ChildProcessError):  # which says that there is no child
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
