"""Redis Streams as other producers write them: a field of the entry for each of the model's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transports.stream.consumers import stopped
from tests.transports.stream.daemons_redis import Redis
from tests.transports.stream.test_brokers import documents, package, started, wait_for

__all__ = ["package"]  # a fixture
pytestmark = pytest.mark.slow


def test_an_entry_may_have_a_field_for_each_of_the_models(tmp_path: Path, package: Path) -> None:
    import redis

    daemon = Redis(tmp_path)
    try:
        with redis.Redis(port=daemon.port) as client:
            client.xadd("in", {"x": "1.5", "y": "2", "n": "0"})
            client.xadd("in", {"x": "3", "y": "much", "n": "1"})
            client.xadd("in", {"data": '{"x":1,"y":2,"n":2}', "traceparent": "00-1", "other": "b"})
            with started(package, daemon) as consumer:
                wait_for(daemon, 3, consumer, 20)
                stopped(consumer)
            (first, second), (letter,) = documents(daemon, "out"), documents(daemon, "dead")
            assert (first["n"], first["prediction"], second["n"]) == ("0", 1, 2)
            assert (letter["code"], letter["field"]) == ("invalid_input", "y")
            (_, fields) = client.xrange("out")[1]
            assert fields[b"traceparent"] == b"00-1"
            assert fields[b"foretell-model-version"] == b"1.0.0"
            assert b"other" not in fields
    finally:
        daemon.stop()
