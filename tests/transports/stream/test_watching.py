"""What a stream tells of itself: metrics that add up, and probes that know of an outage."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.redis_server import free_port
from tests.transports.stream.consumers import Consumer, asked, status_becomes, stopped
from tests.transports.stream.daemons import Daemon
from tests.transports.stream.daemons_mqtt import Mosquitto
from tests.transports.stream.test_brokers import BROKERS, is_garbage, is_poison, message, package

__all__ = ["package"]  # a fixture
pytestmark = pytest.mark.slow
LAG = "foretell_stream_lag_messages"


@pytest.fixture(params=BROKERS, ids=lambda kind: kind.__name__.lower())
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    one: Daemon = request.param(tmp_path)
    yield one
    one.stop()


def test_counts_add_up_and_an_outage_is_told_to_probes(daemon: Daemon, package: Path) -> None:
    daemon.prepare("in", "out", "dead")
    port, n_bad = free_port(), sum(is_garbage(n) or is_poison(n) for n in range(500))
    flags = ["--from", daemon.source("in"), "--to", daemon.sink("out"), "--key", "n"]
    flags += ["--dead-letters", daemon.sink("dead"), "--metrics-bind", f"127.0.0.1:{port}"]
    flags += ["--when", "prediction == 1"]
    with Consumer(package, *flags) as consumer:
        status_becomes(port, 200)
        daemon.put("in", map(message, range(500)))
        deadline = time.monotonic() + 40
        told: dict[str, float] = {}
        while told.get("foretell_stream_consumed_total") != 500 or told[LAG] > 0:  # or nobody knows
            assert consumer.poll() is None, consumer.communicate()[1].decode()
            assert time.monotonic() < deadline, told
            families = text_string_to_metric_families(asked(port, "/metrics")[1])
            told = {one.name: one.value for family in families for one in family.samples}
        assert told["foretell_stream_dead_lettered_total"] == n_bad
        left_out = told["foretell_stream_left_out_total"]
        assert told["foretell_stream_published_total"] + left_out == 500 - n_bad
        assert told["foretell_stream_batch_messages_sum"] == 500
        assert math.isnan(told[LAG]) == (type(daemon) is Mosquitto)
        daemon.stop()
        assert "waiting for" in status_becomes(port, 503)
        assert asked(port, "/health/live")[0] == 200
        daemon.start()
        status_becomes(port, 200)
        daemon.put("in", [message(1000)])
        err = stopped(consumer)
        assert err.count(" is away ") == err.count(" is back") <= 3
