"""Overload: four times more requests than a slow model can take, for a while.

Rules:

1. Capacity is what the same server answers when just enough clients wait for their turn.
2. Whoever does not fit into the queue is told so at once: 429, and when to come back. Nothing
   else may come back than that and right answers.
3. Whoever got in waits at most for the full queue, the batch that runs, and its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.budgets import Limit, Verdict, at_least, at_most
from benchmarks.harness import (
    LOAD_CORE,
    BenchFailed,
    Server,
    check_answer,
    measure,
    pinned,
    running,
    sharing,
    wait_until_quiet,
)
from benchmarks.loads import Load
from benchmarks.percentiles import medians
from benchmarks.sections import Effort, Section, kept
from benchmarks.servers import pack, serve
from benchmarks.slow_models import CALL_S
from benchmarks.together import slow_load

# So few a second that HTTP costs next to nothing: it is the model that is overloaded.
BATCH_ROWS, QUEUE_ROWS = 2, 20
TIMES = 4
# Over the longest wait, which is twelve calls; eleven, so 0.92, is what a full queue comes to, and
# 1.12 was seen on a quiet machine. On a busy one it says little, which the report's warning tells.
WAIT_LIMIT = at_most(1.25)
SETTLED_S = 2.0  # after which memory counts: connections are open, the queue is full
COLUMNS = (
    "capacity/s",
    "offered/s",
    "accepted/s",
    "accepted p50 ms",
    "accepted p99 ms",
    "longest wait ms",
    "429 p99 ms",
    "429 without Retry-After",
    "other answers",
    "RSS grew, %",
    "others, %",
)
_TEXT = (
    "A model that takes {call:.0f} ms a call, at most {batch} rows a call (`--max-batch-rows`) and "
    "{queue} rows in the queue (`--max-queue-rows`). Capacity is what {busy} connections of wrk "
    "get answered; then `benchmarks/open_loop.py` offers {times} times as much at a fixed rate, "
    "whatever comes back. The longest wait follows from the capacity: a full queue, the batch that "
    "runs, and one's own; what a busy neighbour takes from the server or the client comes on top. "
    "Memory is compared {settled:.0f} s after the start of the overload and "
    "at its end."
)


@dataclass(frozen=True, slots=True)
class Overloaded:
    """One round; numbers as in COLUMNS."""

    capacity_per_s: float
    offered_per_s: float
    accepted_per_s: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    longest_wait_ms: float
    shed_p99_ms: float
    without_retry_after: float
    other: float
    rss_grew_percent: float
    others_percent: float


def overload(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("overload")
    models = folder / "models"
    pack("slow_models:Waiting", "--name", "waiting", "-o", str(models))
    limits = ("--max-batch-rows", str(BATCH_ROWS), "--max-queue-rows", str(QUEUE_ROWS))
    server = serve(models, *limits)
    seconds = effort.seconds * 3
    rounds = []
    for number in range(effort.rounds):
        effort.tell(f"round {number + 1} of {effort.rounds}")
        with running(server, folder / "log") as pid:
            rounds.append(_round(server, pid, seconds))
    (middle,) = medians(rounds, labels=0)
    return Section(
        "Overload",
        _TEXT.format(
            call=CALL_S * 1e3,
            batch=BATCH_ROWS,
            queue=QUEUE_ROWS,
            busy=BATCH_ROWS * 3,
            times=TIMES,
            settled=SETTLED_S,
        ),
        COLUMNS,
        [[f"{number:,.1f}" for number in astuple(middle)]],
        judge(middle, rounds),
        labels=0,
        others=[one.others_percent for one in rounds],
        data=kept([middle], rounds),
    )


def _round(server: Server, pid: int, seconds: float) -> Overloaded:
    load = slow_load("waiting", BATCH_ROWS * 3)
    check_answer(server, load)
    capacity = measure(server, pid, load).requests_per_s
    wait_until_quiet(server, pid)
    with sharing(lambda: processes.cpu_seconds(pid)) as others:
        told, grew = _offer(server, pid, load, capacity * TIMES, seconds)
    check_answer(server, load)
    if told["offered_per_s"] < 0.95 * capacity * TIMES:
        raise BenchFailed(
            f"only {told['offered_per_s']:.0f} requests/s could be offered, {TIMES} times "
            f"{capacity:.0f} were wanted"
        )
    return Overloaded(
        capacity,
        told["offered_per_s"],
        told["accepted_per_s"],
        told["accepted_p50_ms"],
        told["accepted_p99_ms"],
        (QUEUE_ROWS + 2 * BATCH_ROWS) / capacity * 1e3,
        told["shed_p99_ms"],
        told["without_retry_after"],
        told["other"],
        grew * 100,
        others[0],
    )


def _offer(
    server: Server, pid: int, load: Load, rate: float, seconds: float
) -> tuple[dict[str, Any], float]:
    """What the open loop tells, and by which share the server's memory grew meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        body = Path(name, "body")
        body.write_bytes(load.body)
        url = server.root_url + load.path
        told = [sys.executable, "-m", "benchmarks.open_loop", url, str(rate), str(seconds)]
        client = subprocess.Popen(
            [*pinned(LOAD_CORE), *told],
            env={**os.environ, "BODIES": str(body)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            time.sleep(SETTLED_S)
            before = processes.largest_rss_mib(pid)
            output, complaint = client.communicate(timeout=seconds + 60)
            after = processes.largest_rss_mib(pid)
        finally:
            client.kill()
            client.wait()
    if client.returncode:
        raise BenchFailed(f"the open loop failed: {complaint.strip()}")
    return json.loads(output), after / before - 1


def judge(middle: Overloaded, rounds: Sequence[Overloaded]) -> list[Verdict]:
    """The verdicts: medians for what is noisy, the sum of all rounds for what must not happen.

    A latency of 0 is that of no answer: such a round says nothing of it.
    """
    shed = any(one.shed_p99_ms for one in rounds)
    numbers: tuple[tuple[str, Limit, float | None], ...] = (
        (
            f"{TIMES} times overloaded: answered, of capacity",
            at_least(0.9),
            middle.accepted_per_s / middle.capacity_per_s,
        ),
        (
            f"{TIMES} times overloaded: p99 of the accepted over the longest wait",
            WAIT_LIMIT,
            middle.accepted_p99_ms / middle.longest_wait_ms if middle.accepted_p99_ms else None,
        ),
        (
            f"{TIMES} times overloaded: answers 429 without Retry-After",
            at_most(0, ""),
            sum(one.without_retry_after for one in rounds) if shed else None,
        ),
        (
            f"{TIMES} times overloaded: answers that are neither right nor 429, or none",
            at_most(0, ""),
            sum(one.other for one in rounds),
        ),
        (f"{TIMES} times overloaded: memory grew by", at_most(5, "%"), middle.rss_grew_percent),
    )
    return [Verdict(*one) for one in numbers]
