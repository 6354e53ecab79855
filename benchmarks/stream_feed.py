"""The feed of a stream: sends messages to Kafka at a fixed rate, and reads their results.

Each message has a moment, and its latency counts from that moment until its result has been read
back, however late it was sent. Run pinned by streams.py:

    BODIES=bodies.ndjson python -m benchmarks.stream_feed SERVER RATE WARM_UP_S SECONDS

The bodies are sent in turn, each with its number as `n`, to the topic `soak`; results with `n`
come from `soaked`. A line says that the warm-up is over, another one what came of the rest.
"""

import json
import os
import re
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.percentiles import percentile

LAST_RESULTS_S = 30.0
DOUBLES_S = 1.0
_TURN_S = 0.001
_KEYS = [b"key-%d" % number for number in range(20)]
_NUMBER = re.compile(rb'"n":(\d+)')


class Results:
    """What has come: how often each number did, and how late the first time."""

    def __init__(self, server: str, count: int, rate: float) -> None:
        self.times, self.latencies = bytearray(count), array("d", bytes(8 * count))
        self.came, self.began, self._rate = 0, 0.0, rate
        settings = {"bootstrap.servers": server, "group.id": "reader", "enable.auto.commit": False}
        self._consumer = Consumer(settings)
        there = self._consumer.list_topics("soaked", 10).topics["soaked"].partitions
        self._consumer.assign([TopicPartition("soaked", number, 0) for number in there])

    def read(self, wait_s: float) -> None:
        """All that is there, after a while in which something may come."""
        first = self._consumer.poll(wait_s)
        if first is None:
            return
        told = (first, *self._consumer.consume(1000, 0))
        now = time.perf_counter() - self.began
        for one in told:
            if one.error() is not None:
                raise SystemExit(f"the results cannot be read: {one.error()}")
            found = _NUMBER.search(one.value() or b"")
            if found is None:
                raise SystemExit(f"this is no result: {one.value()!r}")
            number = int(found[1])
            if not self.times[number]:
                self.latencies[number] = now - number / self._rate
                self.came += 1
            self.times[number] = min(self.times[number] + 1, 255)


def feed(server: str, rate: float, warm_up_s: float, seconds: float) -> dict[str, Any]:
    """Send and read; what came of it."""
    bodies = [body[:-1] + b',"n":' for body in Path(os.environ["BODIES"]).read_bytes().splitlines()]
    count, warm = int(rate * (warm_up_s + seconds)), int(rate * warm_up_s)
    results = Results(server, count, rate)
    settings = {"bootstrap.servers": server, "linger.ms": 2, "enable.idempotence": True}
    producer = Producer({**settings, "queue.buffering.max.messages": 10_000_000})
    sent, late, came_before, warm_at, results.began = 0, 0.0, 0, 0.0, time.perf_counter()
    while sent < count:
        now = time.perf_counter() - results.began
        until = min(int(now * rate) + 1, count)
        if until > sent >= warm:
            late = max(late, now - sent / rate)
        for number in range(sent, until):
            body = b"%b%d}" % (bodies[number % len(bodies)], number)
            producer.produce("soak", body, _KEYS[number % len(_KEYS)])
        if sent < warm <= until:
            print("warm", flush=True)
            came_before, warm_at = results.came, now
        sent = until
        producer.poll(0)
        results.read(_TURN_S)
    spent = time.perf_counter() - results.began
    came_per_s = (results.came - came_before) / (spent - warm_at)
    deadline = time.monotonic() + LAST_RESULTS_S
    while results.came < count and time.monotonic() < deadline:
        results.read(_TURN_S)
    deadline = time.monotonic() + DOUBLES_S
    while time.monotonic() < deadline:
        results.read(_TURN_S)
    took = [one for one, n in zip(results.latencies[warm:], results.times[warm:], strict=True) if n]
    return {
        "sent": count,
        "came_per_s": came_per_s,
        "lost": results.times.count(0),
        "doubled": sum(1 for times in results.times if times > 1),
        "most_late_ms": late * 1e3,
        **{f"p{n}_ms": percentile(took, n) * 1e3 for n in (50, 99, 100)},
    }


def main() -> None:
    """Feed, and print what came of it as one JSON line."""
    server, *numbers = sys.argv[1:]
    rate, warm_up_s, seconds = map(float, numbers)
    print(json.dumps(feed(server, rate, warm_up_s, seconds)))


if __name__ == "__main__":
    main()
