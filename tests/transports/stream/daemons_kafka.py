"""Kafka's protocol, spoken by noida-db."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.transports.stream.daemons import Daemon, Put

QUIET = logging.getLogger("tests.librdkafka")
QUIET.setLevel(logging.CRITICAL)


class Kafka(Daemon):
    partitions = 3

    @property
    def binary(self) -> Path:
        found = importlib.util.find_spec("noida_db")
        assert found is not None
        assert found.origin is not None
        binary = Path(found.origin).parent / "noida-db"  # the script leaves it behind when killed
        if not os.access(binary, os.X_OK):
            binary.chmod(0o755)
        return binary

    @property
    def command(self) -> list[str]:
        options = ["--only", "kafka", "--kafka-port", str(self.port)]
        return [str(self.binary), "start", *options, "--data-dir", str(self.folder)]

    def stop(self) -> None:
        # told to end, it saves, and goes on to acknowledge what it won't have: its door goes first
        if self.process.poll() is None:
            told = [str(self.binary), "stop", "kafka", "--data-dir", str(self.folder)]
            subprocess.run(told, check=True, capture_output=True)
        super().stop()

    @property
    def settings(self) -> dict[str, Any]:
        return {"bootstrap.servers": f"127.0.0.1:{self.port}", "logger": QUIET}

    def answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            AdminClient(self.settings).list_topics(timeout=1)
        except KafkaException:
            return False
        return True

    def source(self, name: str, consumer: str = "one") -> str:
        # no broker counts a killed member out before 6 s; one with a name may come back at once
        named = f"group.instance.id={consumer}&" if consumer == "one" else ""
        own = f"{named}session.timeout.ms=6000"
        return f"kafka://127.0.0.1:{self.port}/{name}?group=g&{own}"

    def sink(self, name: str) -> str:
        return f"kafka://127.0.0.1:{self.port}/{name}"

    def prepare(self, *names: str) -> None:
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        admin = AdminClient(self.settings)  # must outlive its futures
        topics = [NewTopic(name, self.partitions, 1) for name in names]
        for done in admin.create_topics(topics).values():
            done.result()

    def put(self, name: str, told: Iterable[Put]) -> None:
        from confluent_kafka import Producer

        producer = Producer({**self.settings, "enable.idempotence": True})
        for key, value in told:
            producer.produce(name, value, key)
        assert producer.flush(20) == 0

    def told(self, name: str) -> list[bytes]:
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        own = {"group.id": "reader", "enable.auto.commit": False, "enable.partition.eof": True}
        consumer = Consumer({**self.settings, **own})  # reads what is committed
        consumer.assign([TopicPartition(name, number, 0) for number in range(self.partitions)])
        values: list[bytes] = []
        ended: set[int | None] = set()
        while len(ended) < self.partitions:
            for one in consumer.consume(1000, 0.5):
                error = one.error()
                if error is None:
                    values.append(one.value() or b"")
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(one.partition())
        consumer.close()
        return values
