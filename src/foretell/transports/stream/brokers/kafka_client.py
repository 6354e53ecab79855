"""What all that speaks to Kafka share: settings, errors, and the thread librdkafka is called in."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from foretell.errors import BadSettings, MissingExtra, StoreFailed
from foretell.transports.stream.brokers.places import Place
from foretell.transports.stream.brokers.tls import refusal
from foretell.transports.stream.brokers.waiting import Outage
from foretell.transports.stream.message import ID_HEADER, Record

_QUIET = logging.getLogger("foretell.stream.librdkafka")
_QUIET.setLevel(logging.CRITICAL + 1)

POLL_S = 0.1
"""So long librdkafka is waited for at a time."""

COORDINATOR_S = 10.0
"""So long an answer of a group's coordinator is waited for."""

Came = TypeVar("Came")
Partition = tuple[str, int]


class Client:
    """One of librdkafka's clients: what it is made with, and what it says went wrong."""

    def __init__(self, place: Place) -> None:
        try:
            import confluent_kafka
        except ImportError:
            raise MissingExtra("kafka:// needs the extra: pip install 'foretell[stream]'") from None
        self.kafka = confluent_kafka
        codes = confluent_kafka.KafkaError
        self.codes = codes
        self.outage = Outage(f"Kafka at {place.server}")
        self.refused: Any = None  # what no other try would change
        self.broken: Any = None  # why librdkafka's client itself will do no more
        self._thread = ThreadPoolExecutor(1, "kafka")
        self.settings: dict[str, Any] = {
            "bootstrap.servers": place.server,
            "client.id": "foretell",
            "error_cb": self._told,
            "logger": _QUIET,
            "reconnect.backoff.max.ms": 2000,
        }
        if place.tls is not None:
            place.tls.context()  # says what is wrong with a file
            self.settings["security.protocol"] = "ssl"
            names = {"ca": "ssl.ca.location", "cert": "ssl.certificate.location"}
            names["key"] = "ssl.key.location"
            told = place.tls._asdict()
            told["key"] = told["key"] or told["cert"]  # one file may have both
            self.settings |= {names[name]: file for name, file in told.items() if file}
        if place.user is not None:
            security = "sasl_plaintext" if place.tls is None else "sasl_ssl"
            self.settings |= {"security.protocol": security, "sasl.mechanism": "PLAIN"}
            self.settings |= {"sasl.username": place.user, "sasl.password": place.password or ""}
        self.settings |= {name: told for name, told in place.options.items() if "." in name}

    def made(self, kind: str, **settings: Any) -> Any:
        """A Consumer or Producer with settings of its own. Raises BadSettings."""
        own = {name.replace("_", "."): told for name, told in settings.items()}
        try:
            return getattr(self.kafka, kind)({**own, **self.settings})
        except (self.kafka.KafkaException, ValueError, TypeError) as error:
            raise BadSettings(f"these settings of Kafka cannot be used: {error}") from None

    def producer(self) -> Any:
        """An idempotent one; keys go to the partitions that Java's clients have them in."""
        return self.made(
            "Producer",
            acks="all",
            enable_idempotence=True,
            partitioner="murmur2_random",
            queue_buffering_max_messages=100_000,
            linger_ms=0,
            message_timeout_ms=0,
        )

    def placed(self, offsets: dict[Partition, int], metadata: str) -> list[Any]:
        """`offsets` as librdkafka has them."""
        make = self.kafka.TopicPartition
        return [make(*partition, offset, metadata) for partition, offset in offsets.items()]

    def produced(
        self,
        producer: Any,
        topic: str,
        records: Sequence[Record],
        told: Callable[[Any, Any], None],
    ) -> None:
        """`records` are in the producer's queue; while it is full, some go out of it.

        `told` hears of each. Raises KafkaException.
        """
        produce = producer.produce
        for record in records:
            headers = [(ID_HEADER, record.id.encode()), *record.headers]
            while True:
                try:
                    produce(topic, record.value, record.key, headers=headers, on_delivery=told)
                except BufferError:
                    producer.poll(POLL_S)
                    if self.refused or self.broken:
                        raise self.kafka.KafkaException(self.refused or self.broken) from None
                else:
                    break

    async def call(self, function: Callable[..., Came], *given: Any) -> Came:
        """What `function` returns, called in the one thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *given)

    def _told(self, error: Any) -> None:
        if error.fatal() or error.code() == self.codes._FATAL:
            self.broken = error
        elif not self.passes(error):
            self.refused = error
        elif error.code() == self.codes._ALL_BROKERS_DOWN:
            self.outage.noticed(error.str())

    def passes(self, error: Any) -> bool:
        """Whether it is an outage: what librdkafka itself met, or what a broker says of itself."""
        codes = self.codes
        if error.code() < 0:
            if refusal(error.str()):
                return False
            return error.code() not in (codes._AUTHENTICATION, codes._SSL, codes._INVALID_ARG)
        return error.code() in (
            *(codes.UNKNOWN_TOPIC_OR_PART, codes.LEADER_NOT_AVAILABLE),
            *(codes.NOT_LEADER_FOR_PARTITION, codes.REQUEST_TIMED_OUT, codes.BROKER_NOT_AVAILABLE),
            *(codes.REPLICA_NOT_AVAILABLE, codes.NETWORK_EXCEPTION, codes.KAFKA_STORAGE_ERROR),
            *(codes.COORDINATOR_LOAD_IN_PROGRESS, codes.COORDINATOR_NOT_AVAILABLE),
            *(codes.NOT_COORDINATOR, codes.REBALANCE_IN_PROGRESS, codes.UNKNOWN_MEMBER_ID),
            *(codes.ILLEGAL_GENERATION, codes.NOT_ENOUGH_REPLICAS, codes.FENCED_LEADER_EPOCH),
        )

    def moved_on(self, error: Any) -> bool:
        """Whether a broker says that the group gives to others what this member had."""
        codes = self.codes
        gone = codes.ILLEGAL_GENERATION, codes.UNKNOWN_MEMBER_ID, codes.REBALANCE_IN_PROGRESS
        return error.code() in gone

    def check_record(self, error: Any) -> None:
        """Raises StoreFailed when no other try would make the broker take what failed so."""
        codes = self.codes
        if self.refused or error.code() in (
            *(codes.MSG_SIZE_TOO_LARGE, codes.RECORD_LIST_TOO_LARGE, codes.INVALID_RECORD),
            *(codes.TOPIC_AUTHORIZATION_FAILED, codes.CLUSTER_AUTHORIZATION_FAILED),
            *(codes.TOPIC_EXCEPTION, codes._UNKNOWN_TOPIC, codes._UNKNOWN_PARTITION),
        ):
            why = refusal(error.str()) or error.str()
            raise StoreFailed(f"Kafka does not take a record: {why}")

    def check(self) -> None:
        """Raises StoreFailed when the broker has said that it will not do."""
        error = self.refused or self.broken
        if error is not None:
            raise StoreFailed(f"Kafka refuses: {refusal(error.str()) or error.str()}")

    def close(self) -> None:
        """The thread ends."""
        self._thread.shutdown(wait=False)
