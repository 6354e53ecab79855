"""Streams: how fast one process takes messages, how late results are, and a soak of minutes.

Rules:

1. The stream runs on one core, the broker and who feeds it on another. How fast: a topic has all
   its messages before, JSON of the four features of the synthetic churn example under 20 keys;
   results go back to the same broker. The clock runs from the first result on.
2. FastStream reads the same topic of the same broker, in turn with Foretell in every round; it is
   slower, and is stopped after a while.
3. The soak sends at a fixed rate, whatever comes back: half of what the stream takes while it is
   fed and its results are read, since whoever does that has the broker's core, too. Its latencies
   count from a message's moment until its result was read back, without the warm-up. Results are
   counted by number.
4. Kafka's protocol is spoken by noida-db, which keeps all messages in memory and saves them all at
   a time, while whoever asks it waits. In the soak, what is older than some seconds is deleted,
   and its files are in memory: else it waits for the disk, too.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

from examples.train_churn_synthetic import synthetic_customers
from prometheus_client.parser import text_string_to_metric_families
from tests.transports.stream.daemons import Daemon
from tests.transports.stream.daemons_kafka import Kafka
from tests.transports.stream.daemons_mqtt import Mosquitto
from tests.transports.stream.daemons_nats import Nats
from tests.transports.stream.daemons_rabbit import Rabbit
from tests.transports.stream.daemons_redis import Redis

from benchmarks import processes, soak
from benchmarks.budgets import Limit, Verdict, at_least, at_most
from benchmarks.harness import BenchFailed, sharing
from benchmarks.percentiles import medians
from benchmarks.scenarios import boosted
from benchmarks.sections import Effort, Section
from benchmarks.servers import free_port, repository
from benchmarks.stream_runs import Bench, broker, process, stream

OTHERS: dict[str, type[Daemon]] = {
    "NATS": Nats,
    "RabbitMQ": Rabbit,
    "MQTT": Mosquitto,
    "Redis": Redis,
}
OURS, NAIVE = "Foretell, Kafka", "FastStream, Kafka"
COLUMNS = ("stream", "messages/s", "CPU µs/message", "others, %")
CAPACITY, OVER_NAIVE = at_least(20_000, "messages/s"), at_least(5)
LATENCY, MEMORY, NONE = at_most(50, "ms"), at_most(1.05), at_most(0, "")
_PART = 5000
_FIRST_WITHIN_S, _LONGEST_S, _LOOK_S = 60.0, 6.0, 0.05
_TEXT = (
    "One process of `foretell stream` and the gradient boosting model behind its scaler, messages "
    "in JSON; Kafka's protocol is spoken by noida-db. *FastStream* is "
    "`benchmarks/naive_stream.py`: the same two files and the same topic, scikit-learn called for "
    "one message at a time. The other brokers are shown as they come: most of their cost is "
    "their clients'. While messages are sent and results are read, both on the broker's core, it "
    "took {capacity:,.0f} a second. Soak: half of that, {rate:,.0f} a second, {sent:,} messages in "
    "{all_s:.0f} s. From a message's moment until its result was read back p50 {p50:.1f} ms, "
    "p99 {p99:.1f} ms, at most {most:.0f} ms (a message was sent {late:.0f} ms late at most); "
    "each partition keeps the last {kept:,} there, in files in memory, since noida-db saves all "
    "it has at a time and lets everybody wait for it. "
    "Memory of the process after {warm_up:.0f} s {before:.1f} MiB, at the end {after:.1f} MiB."
)


Broker = TypeVar("Broker", bound=Daemon)


@dataclass(frozen=True, slots=True)
class Drained:
    """One round of one stream; numbers as in COLUMNS."""

    stream: str
    messages_per_s: float
    cpu_us: float
    others_percent: float


def streams(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("streams")
    site = boosted(folder)
    package = repository(site) / "churn" / "1.0.0"
    customers, _ = synthetic_customers(5_000, seed=8)
    bodies = [
        json.dumps(row, separators=(",", ":")).encode() for row in customers.to_dict("records")
    ]
    bench = Bench(effort, folder, site.model_folder, package, bodies)
    found = _on_kafka(bench)
    if not effort.quick:
        found += [_on_another(bench, name, kind) for name, kind in OTHERS.items()]
    told = {one.stream: one for one in medians(found, labels=1)}
    soaked = soak.soak(bench, told[OURS].messages_per_s)
    return Section(
        "Streams",
        _TEXT.format(
            **asdict(soaked),
            warm_up=soaked.warm_up_s,
            all_s=soaked.warm_up_s + soaked.seconds,
            kept=round(soak.REMEMBERED_S * soaked.rate),
        ),
        COLUMNS,
        [
            (
                one.stream,
                f"{one.messages_per_s:,.0f}",
                f"{one.cpu_us:,.1f}",
                f"{one.others_percent:.0f}",
            )
            for one in told.values()
        ],
        judge(told, soaked),
        labels=1,
        others=[one.others_percent for one in found],
        data={
            "medians": [asdict(one) for one in told.values()],
            "measured": [asdict(one) for one in found],
            "soak": asdict(soaked),
        },
    )


def judge(told: Mapping[str, Drained], soaked: soak.Soaked) -> list[Verdict]:
    """What became of the budgets."""
    ours, naive = (told[name].messages_per_s for name in (OURS, NAIVE))
    numbers: list[tuple[str, Limit, float]] = [
        ("a stream from Kafka to Kafka: messages a second of one process", CAPACITY, ours),
        (
            "a stream's messages a second over FastStream's with scikit-learn",
            OVER_NAIVE,
            ours / naive,
        ),
        (
            "at half of what it takes while fed and read: p99 of a message's moment to its result",
            LATENCY,
            soaked.p99,
        ),
        ("a soak: messages without a result", NONE, soaked.lost),
        ("a soak: messages with two results", NONE, soaked.doubled),
        (
            "a soak: memory at its end over that after the warm-up",
            MEMORY,
            soaked.after / soaked.before,
        ),
    ]
    return [Verdict(*one) for one in numbers]


def _fill(daemon: Daemon, bodies: Sequence[bytes], count: int) -> None:
    for at in range(0, count, _PART):
        part = range(at, min(at + _PART, count))
        daemon.put("in", ((b"key-%d" % (n % 20), bodies[n % len(bodies)]) for n in part))


def _on_kafka(bench: Bench) -> list[Drained]:
    """Rounds of Foretell and FastStream, in turn."""
    effort, found = bench.effort, list[Drained]()
    count = 100_000 if effort.quick else 300_000
    with broker(Kafka, bench.folder / "kafka") as daemon:
        effort.tell("filling a topic")
        daemon.prepare("in", "out", "dead")
        _fill(daemon, bench.bodies, count)
        for number in range(effort.rounds):
            source = f"{daemon.sink('in')}?group=g{number}"
            naive = {
                "FOLDER": str(bench.model_folder),
                "SERVER": f"127.0.0.1:{daemon.port}",
                "GROUP": f"naive-{number}",
            }
            ways: dict[str, tuple[list[str], dict[str, str]]] = {
                OURS: (stream(bench, source, daemon), {}),
                NAIVE: ([sys.executable, "-m", "benchmarks.naive_stream"], naive),
            }
            for name, (argv, env) in ways.items():
                effort.tell(f"{name}, round {number + 1} of {effort.rounds}")
                with (
                    _written(daemon) as done,
                    process(name, argv, bench.folder, **env) as running,
                ):
                    found.append(_followed(name, running, done, count))
    return found


def _on_another(bench: Bench, name: str, kind: type[Daemon]) -> Drained:
    bench.effort.tell(name)
    count, port = 30_000, free_port()
    with broker(kind, bench.folder / name) as daemon:
        daemon.prepare("in", "out", "dead")
        _fill(daemon, bench.bodies, count)
        argv = stream(bench, daemon.source("in"), daemon, "--metrics-bind", f"127.0.0.1:{port}")
        with process(name, argv, bench.folder) as one:
            return _followed(f"Foretell, {name}", one, lambda: _consumed(port), count)


def _followed(
    name: str, process: subprocess.Popen[bytes], done: Callable[[], int], count: int
) -> Drained:
    """From the first result to the last of `count`, or as long as one may take."""

    def now() -> tuple[float, float, int]:
        told = done()
        return time.perf_counter(), processes.cpu_seconds(process.pid), told

    first = _until(name, process, now, lambda at: at[2] > 0, _FIRST_WITHIN_S)
    with sharing(lambda: processes.cpu_seconds(process.pid)) as others:
        last = _until(name, process, now, lambda at: at[2] >= count, _LONGEST_S, late=True)
    wall, cpu, messages = (after - before for before, after in zip(first, last, strict=True))
    if not messages:
        raise BenchFailed(f"{name} came to a halt after {first[2]} messages")
    return Drained(name, messages / wall, 1e6 * cpu / messages, others[0])


At = tuple[float, float, int]


def _until(
    name: str,
    process: subprocess.Popen[bytes],
    now: Callable[[], At],
    enough: Callable[[At], bool],
    within_s: float,
    *,
    late: bool = False,
) -> At:
    deadline = time.monotonic() + within_s
    while not enough(at := now()):
        if process.poll() is not None:
            raise BenchFailed(f"{name} ended after {at[2]} messages")
        if time.monotonic() > deadline:
            if late:
                return at
            raise BenchFailed(f"{name}: nothing came within {within_s:.0f} s")
        time.sleep(_LOOK_S)
    return at


@contextmanager
def _written(daemon: Kafka) -> Iterator[Callable[[], int]]:
    """What tells how many messages have come to the topic `out` since."""
    from confluent_kafka import Consumer, TopicPartition

    looking = Consumer({**daemon.settings, "group.id": "looks"})
    parts = [TopicPartition("out", number) for number in range(daemon.partitions)]

    def written() -> int:
        ends = (looking.get_watermark_offsets(part, timeout=10) for part in parts)
        return sum(end for _, end in ends)

    before = written()
    try:
        yield lambda: written() - before
    finally:
        looking.close()


def _consumed(port: int) -> int:
    """What a stream says at its metrics."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            text = reply.read().decode()
    except OSError:  # it has not begun
        return 0
    samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
    told = {one.name: one.value for one in samples}
    return int(told.get("foretell_stream_consumed_total", 0))
