"""A soak: messages at a fixed rate for minutes, their latencies, and the memory of the stream."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.transports.stream.daemons_kafka import Kafka

from benchmarks import processes
from benchmarks.harness import LOAD_CORE, BenchFailed, pinned
from benchmarks.stream_runs import Bench, broker, process, stream

REMEMBERED_S = 2.0
"""Of so long each partition keeps as many messages as all of them get."""

_FORGETS_EVERY_S = 0.5
_MEMORY = "/dev/shm"


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of a soak; times in ms, memory in MiB. `capacity` was measured before."""

    capacity: float
    sent: int
    rate: float
    warm_up_s: float
    seconds: float
    lost: int
    doubled: int
    p50: float
    p99: float
    most: float
    late: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How a stream is fed: messages a second, for how long, and how much its broker keeps."""

    rate: float
    warm_up_s: float
    seconds: float
    remembered_s: float


@contextmanager
def _forgetting(daemon: Kafka, topics: Sequence[str], most: int) -> Iterator[None]:
    """Meanwhile the broker deletes messages of these, but for the last `most` of each partition.

    Raises BenchFailed when it does not.
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient

    over, failed = threading.Event(), list[KafkaException]()
    parts = [(topic, number) for topic in topics for number in range(daemon.partitions)]

    def forget() -> None:
        admin = AdminClient(daemon.settings)
        looking = Consumer({**daemon.settings, "group.id": "looks"})
        while not over.wait(_FORGETS_EVERY_S):
            try:
                ends = [looking.get_watermark_offsets(TopicPartition(*part))[1] for part in parts]
                old = [
                    TopicPartition(*part, end - most)
                    for part, end in zip(parts, ends, strict=True)
                    if end > most
                ]
                for done in admin.delete_records(old).values() if old else ():
                    done.result()
            except KafkaException as error:
                failed.append(error)
                break
        looking.close()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise BenchFailed(f"the broker does not delete what is old: {failed[0]}")


def soak(bench: Bench, drained: float) -> Soaked:
    """Messages for minutes, at half of what the stream takes while it is fed and read.

    `drained` is what it took from a full topic, in messages a second: more is not sent to it.
    """
    warm_up_s, seconds = (10.0, 20.0) if bench.effort.quick else (20.0, 160.0)
    bench.effort.tell(f"fed with {drained:,.0f} messages a second")
    whole, _, _ = _fed(bench, "fed", Plan(drained, 5.0, 10.0, remembered_s=15.0))
    capacity = whole["came_per_s"]
    plan = Plan(capacity / 2, warm_up_s, seconds, REMEMBERED_S)
    bench.effort.tell(f"soak, {plan.rate:,.0f} messages a second for {warm_up_s + seconds:.0f} s")
    came, before, after = _fed(bench, "soak", plan)
    return Soaked(
        capacity,
        came["sent"],
        plan.rate,
        warm_up_s,
        seconds,
        came["lost"],
        came["doubled"],
        came["p50_ms"],
        came["p99_ms"],
        came["p100_ms"],
        came["most_late_ms"],
        before,
        after,
    )


def _fed(bench: Bench, name: str, plan: Plan) -> tuple[dict[str, Any], float, float]:
    """What stream_feed tells, and the stream's memory after the warm-up and at the end."""
    bodies = bench.folder / f"{name}.bodies"
    bodies.write_bytes(b"\n".join(bench.bodies))
    with (
        tempfile.TemporaryDirectory(prefix="foretell-bench-", dir=_MEMORY) as files,
        broker(Kafka, Path(files) / name) as daemon,
    ):
        daemon.prepare("soak", "soaked", "dead")
        source = f"{daemon.sink('soak')}?group=soak"
        argv = stream(bench, source, daemon, "--key", "n", out="soaked")
        with process(f"{name}-stream", argv, bench.folder) as scoring:
            numbers = map(str, (plan.rate, plan.warm_up_s, plan.seconds))
            told = [f"127.0.0.1:{daemon.port}", *numbers]
            with subprocess.Popen(
                [*pinned(LOAD_CORE), sys.executable, "-m", "benchmarks.stream_feed", *told],
                env={**os.environ, "BODIES": str(bodies)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as feed:
                assert feed.stdout is not None
                most = int(plan.remembered_s * plan.rate)
                with _forgetting(daemon, ("soak", "soaked"), most):
                    feed.stdout.readline()  # the warm-up is over
                    before = processes.largest_rss_mib(scoring.pid)
                    output, complaint = feed.communicate()
            if feed.returncode:
                raise BenchFailed(f"feeding the stream failed: {complaint.strip()[-500:]}")
            return json.loads(output), before, processes.largest_rss_mib(scoring.pid)
