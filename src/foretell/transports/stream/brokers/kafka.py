"""Kafka: records of a topic, read by a consumer group; partitions keep their order.

Offsets are committed when their results are out, and no others. A commit's metadata says `open`
as long as somebody works behind it, so who comes after a killed consumer knows that it was.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from foretell.errors import BadSettings, MissingExtra, StoreFailed
from foretell.transports.stream.brokers.places import Place, placed
from foretell.transports.stream.brokers.tls import refusal
from foretell.transports.stream.brokers.waiting import Outage, Taking
from foretell.transports.stream.message import ID_HEADER, MOST_ROWS, Message, Record

_log = logging.getLogger("foretell.stream")
_EXAMPLE = "kafka://HOST:PORT/TOPIC?group=NAME (names of librdkafka's settings may follow)"
_KNOWN = {"group": "foretell"}
_POLL_S = 0.1
_COORDINATOR_S = 10.0
_OPEN, _LEFT = "open", ""
_QUIET = logging.getLogger("foretell.stream.librdkafka")
_QUIET.setLevel(logging.CRITICAL + 1)

Came = TypeVar("Came")
Partition = tuple[str, int]


class _Client:
    """What source and sink share: settings, errors, and the thread that librdkafka is called in."""

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

    def check(self) -> None:
        """Raises StoreFailed when the broker has said that it will not do."""
        error = self.refused or self.broken
        if error is not None:
            raise StoreFailed(f"Kafka refuses: {refusal(error.str()) or error.str()}")

    def close(self) -> None:
        """The thread ends."""
        self._thread.shutdown(wait=False)


class KafkaSource:
    """A member of a consumer group."""

    def __init__(self, place: Place) -> None:
        self._client, self._topic = _Client(place), place.name
        self._consumer: Any = self._client.made(
            "Consumer",
            group_id=place.options["group"],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            queued_max_messages_kbytes=16384,
        )
        self._next: dict[Partition, int] = {}  # behind what is finished, where that is known
        self._suspect: dict[Partition, int] = {}  # what is before was begun by somebody killed
        self._held: set[Partition] = set()
        self._subscribed = False
        self._taking = Taking(self._took)

    async def take(self, most: int) -> Sequence[Message]:
        """What has arrived, of all partitions that this member has."""
        return await self._taking.messages(most)

    async def _took(self, most: int) -> Sequence[Message]:
        found: list[Message] = await self._client.call(self._polled, most)
        self._client.check()
        if found:
            self._client.outage.over()
            await self._opened(found)
        elif self._client.outage.lasts and await self._client.call(self._answers):
            self._client.outage.over()
        return found

    def _answers(self) -> bool:
        """Whether a broker tells of the topic; of an outage that ended, librdkafka says nothing."""
        try:
            told = self._consumer.list_topics(self._topic, timeout=1)
        except self._client.kafka.KafkaException:
            return False
        return told.topics[self._topic].error is None

    def _polled(self, most: int) -> list[Message]:
        consumer = self._consumer
        if not self._subscribed:
            consumer.subscribe(
                [self._topic],
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._lost,
            )
            self._subscribed = True
        first = consumer.poll(_POLL_S)
        if first is None:
            return []
        found = [self._message(one) for one in (first, *consumer.consume(most - 1, 0))]
        # a partition may have been revoked meanwhile: others have that message
        return [one for one in found if one is not None and one.receipt[0] in self._held]

    def _message(self, told: Any) -> Message | None:
        failed = told.error()
        if failed is not None:
            if self._client.passes(failed):
                self._client.outage.noticed(failed.str())
            else:
                self._client.refused = failed
            return None
        partition, offset = (told.topic(), told.partition()), told.offset()
        suspect = self._suspect.get(partition, 0)
        if suspect < 0:  # what was committed could not be asked for
            suspect = self._suspect[partition] = offset + MOST_ROWS
        kind, at = told.timestamp()
        return Message(
            f"{partition[0]}/{partition[1]}/{offset}",
            told.value() or b"",
            told.key(),
            tuple((name, value or b"") for name, value in told.headers() or ()),
            2 if offset < suspect else 1,
            at / 1000 if kind else None,
            (partition, offset),
        )

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        self._held |= {(one.topic, one.partition) for one in partitions}
        try:
            committed = consumer.committed(partitions, timeout=_COORDINATOR_S)
        except self._client.kafka.KafkaException as error:
            _log.warning("what the group has committed cannot be asked for: %s", error)
            self._suspect |= {(one.topic, one.partition): -1 for one in partitions}
            return
        for one in committed:
            if one.offset >= 0 and one.metadata == _OPEN:
                self._suspect[one.topic, one.partition] = one.offset + MOST_ROWS

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        """All that was taken is finished when this is called, within a poll."""
        mine = [(one.topic, one.partition) for one in partitions]
        left = {one: self._next[one] for one in mine if one in self._next}
        try:
            if left:
                self._commit(left, _LEFT)
        except self._client.kafka.KafkaException as error:
            _log.warning("leaving a partition could not be said: %s", error)
        self._lost(consumer, partitions)

    def _lost(self, _: Any, partitions: list[Any]) -> None:
        for one in partitions:
            self._next.pop((one.topic, one.partition), None)
            self._suspect.pop((one.topic, one.partition), None)
            self._held.discard((one.topic, one.partition))

    async def _opened(self, found: Sequence[Message]) -> None:
        """Before a partition's first messages are scored, the group is told that they are."""
        firsts: dict[Partition, int] = {}
        for message in found:
            partition, offset = message.receipt
            if partition not in self._next:
                firsts.setdefault(partition, offset)
        if firsts:
            await self._committed(firsts)

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Offsets up to these are committed; they came in order, and so are finished."""
        await self._committed({one.receipt[0]: one.receipt[1] + 1 for one in messages})

    async def _committed(self, offsets: dict[Partition, int]) -> None:
        codes = self._client.codes
        gone = {
            *(codes.ILLEGAL_GENERATION, codes.UNKNOWN_MEMBER_ID, codes.REBALANCE_IN_PROGRESS),
            *(codes._ASSIGNMENT_LOST, codes._STATE, codes._MAX_POLL_EXCEEDED),
        }
        while True:
            try:
                await self._client.call(self._commit, offsets, _OPEN)
            except self._client.kafka.KafkaException as failed:
                self._client.check()
                error = failed.args[0]
                if error.code() in gone:
                    _log.warning("the group has moved on; others do again what was not committed")
                    return
                if not self._client.passes(error):
                    raise StoreFailed(f"Kafka refuses: {error.str()}") from None
                await self._client.outage.sit_out(error.str())
            else:
                self._client.outage.over()
                return

    def _commit(self, offsets: dict[Partition, int], metadata: str) -> None:
        kafka = self._client.kafka
        if not self._consumer.memberid():  # a commit would be refused, of a named member for good
            raise kafka.KafkaException(kafka.KafkaError(kafka.KafkaError._ASSIGNMENT_LOST))
        make = kafka.TopicPartition
        told = [make(*partition, offset, metadata) for partition, offset in offsets.items()]
        for one in self._consumer.commit(offsets=told, asynchronous=False):
            if one.error is not None:
                raise self._client.kafka.KafkaException(one.error)
        self._next |= offsets

    async def lag(self) -> int | None:
        """What is behind the finished offsets of this member's partitions, as far as it knows."""
        return await self._client.call(self._behind)

    def _behind(self) -> int | None:
        if not self._next:
            return None
        left = 0
        for partition, offset in self._next.items():
            told = self._client.kafka.TopicPartition(*partition)
            try:
                ends = self._consumer.get_watermark_offsets(told, cached=True)
            except self._client.kafka.KafkaException:
                return None
            left += max(ends[1] - offset, 0) if ends is not None else 0
        return left

    def finish(self) -> None:
        """What is being polled is handed over."""
        self._taking.finish()

    async def close(self) -> None:
        """Leave the group: others take over at once."""
        await self._taking.close()
        await self._client.call(self._consumer.close)
        self._client.close()


class KafkaSink:
    """An idempotent producer; keys go to the partitions that Java's clients have them in."""

    def __init__(self, place: Place) -> None:
        self._client, self._topic = _Client(place), place.name
        codes = self._client.codes
        self._refusals = {
            *(codes.MSG_SIZE_TOO_LARGE, codes.RECORD_LIST_TOO_LARGE, codes.INVALID_RECORD),
            *(codes.TOPIC_AUTHORIZATION_FAILED, codes.CLUSTER_AUTHORIZATION_FAILED),
            *(codes.TOPIC_EXCEPTION, codes._UNKNOWN_TOPIC, codes._UNKNOWN_PARTITION),
        }
        self._producer = self._made()

    def _made(self) -> Any:
        return self._client.made(
            "Producer",
            acks="all",
            enable_idempotence=True,
            message_timeout_ms=0,
            partitioner="murmur2_random",
            queue_buffering_max_messages=100_000,
            linger_ms=0,
        )

    async def publish(self, records: Sequence[Record]) -> None:
        """Hand over `records`, and wait until all in-sync replicas have them."""
        client = self._client
        while True:
            failed: list[Any] = []
            under_way = await client.call(self._begun, records, failed)
            while under_way and client.refused is None:
                under_way = await client.call(self._under_way)
            if client.refused is None and client.broken is None and not failed:
                client.outage.over()
                return
            error = client.refused or client.broken or failed[0]
            if client.refused or error.code() in self._refusals:
                why = refusal(error.str()) or error.str()
                raise StoreFailed(f"Kafka does not take a record: {why}")
            await client.outage.sit_out(error.str())
            # what the broker knew of this producer is gone: another one sends all again, in order
            client.broken, self._producer = None, self._made()

    def _begun(self, records: Sequence[Record], failed: list[Any]) -> bool:
        """Hand over `records`, and wait a moment: whether some have no answer yet."""

        def out(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error)

        produce, topic = self._producer.produce, self._topic
        try:
            for record in records:
                headers = [(ID_HEADER, record.id.encode()), *record.headers]
                while True:
                    try:
                        produce(topic, record.value, record.key, headers=headers, on_delivery=out)
                    except BufferError:  # its queue is full: some go out of it
                        self._producer.poll(_POLL_S)
                        if self._client.refused or self._client.broken:
                            return False
                    else:
                        break
        except self._client.kafka.KafkaException as error:
            failed.append(error.args[0])
        return self._under_way()

    def _under_way(self) -> bool:
        """Whether records have no answer yet, but may get one."""
        if self._client.broken is not None:
            return False
        try:
            return bool(self._producer.flush(_POLL_S))
        except self._client.kafka.KafkaException as error:
            self._client.broken = error.args[0]
            return False

    async def close(self) -> None:
        """Nothing is under way."""
        self._client.close()


def source_of(url: str) -> KafkaSource:
    """The topic at `url` (…//HOST:PORT/TOPIC?group=G). Raises BadSettings, MissingExtra."""
    return KafkaSource(placed(url, _KNOWN, _EXAMPLE, free="."))


def sink_of(url: str) -> KafkaSink:
    """The topic at `url`. Raises BadSettings, MissingExtra."""
    return KafkaSink(placed(url, _KNOWN, _EXAMPLE, free="."))
