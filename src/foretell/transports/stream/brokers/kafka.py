"""Kafka: records of a topic, read by a consumer group; partitions keep their order.

Offsets are committed when their results are out, and no others. A commit's metadata says `open`
as long as somebody works behind it, so who comes after a killed consumer knows that it was.
"""

import logging
from collections.abc import Sequence
from typing import Any

from foretell.errors import StoreFailed
from foretell.transports.stream.brokers.kafka_client import (
    COORDINATOR_S,
    POLL_S,
    Client,
    Partition,
)
from foretell.transports.stream.brokers.places import Place, placed
from foretell.transports.stream.brokers.waiting import Taking
from foretell.transports.stream.message import MOST_ROWS, Message, Record

_log = logging.getLogger("foretell.stream")
_EXAMPLE = "kafka://HOST:PORT/TOPIC?group=NAME (names of librdkafka's settings may follow)"
_KNOWN = {"group": "foretell"}
_LEFT = ""
OPEN = "open"
"""What an offset's metadata says while somebody works behind it."""


class KafkaSource:
    """A member of a consumer group."""

    def __init__(self, place: Place) -> None:
        self._client, self._topic = Client(place), place.name
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
        first = consumer.poll(POLL_S)
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
            committed = consumer.committed(partitions, timeout=COORDINATOR_S)
        except self._client.kafka.KafkaException as error:
            _log.warning("what the group has committed cannot be asked for: %s", error)
            self._suspect |= {(one.topic, one.partition): -1 for one in partitions}
            return
        for one in committed:
            if one.offset >= 0 and one.metadata == OPEN:
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
        self._forget(mine)

    def _lost(self, _: Any, partitions: list[Any]) -> None:
        self._forget([(one.topic, one.partition) for one in partitions])

    def _forget(self, partitions: Sequence[Partition]) -> None:
        for one in partitions:
            self._next.pop(one, None)
            self._suspect.pop(one, None)
            self._held.discard(one)

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
        await self._committed(behind(messages))

    async def _committed(self, offsets: dict[Partition, int]) -> None:
        codes = self._client.codes
        gone = codes._ASSIGNMENT_LOST, codes._STATE, codes._MAX_POLL_EXCEEDED
        while True:
            try:
                await self._client.call(self._commit, offsets, OPEN)
            except self._client.kafka.KafkaException as failed:
                self._client.check()
                error = failed.args[0]
                if error.code() in gone or self._client.moved_on(error):
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
        told = self._client.placed(offsets, metadata)
        for one in self._consumer.commit(offsets=told, asynchronous=False):
            if one.error is not None:
                raise kafka.KafkaException(one.error)
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


def behind(messages: Sequence[Message]) -> dict[Partition, int]:
    """The offsets behind `messages`, which came in order."""
    return {one.receipt[0]: one.receipt[1] + 1 for one in messages}


class KafkaSink:
    """An idempotent producer; keys go to the partitions that Java's clients have them in."""

    def __init__(self, place: Place) -> None:
        self._client, self._topic = Client(place), place.name
        self._producer = self._client.producer()

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
            client.check_record(error)
            await client.outage.sit_out(error.str())
            # what the broker knew of this producer is gone: another one sends all again, in order
            client.broken, self._producer = None, client.producer()

    def _begun(self, records: Sequence[Record], failed: list[Any]) -> bool:
        """Hand over `records`, and wait a moment: whether some have no answer yet."""

        def out(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error)

        try:
            self._client.produced(self._producer, self._topic, records, out)
        except self._client.kafka.KafkaException as error:
            failed.append(error.args[0])
        return self._under_way()

    def _under_way(self) -> bool:
        """Whether records have no answer yet, but may get one."""
        if self._client.broken is not None:
            return False
        try:
            return bool(self._producer.flush(POLL_S))
        except self._client.kafka.KafkaException as error:
            self._client.broken = error.args[0]
            return False

    async def close(self) -> None:
        """Nothing is under way."""
        self._client.close()


def place_of(url: str) -> Place:
    """The topic at `url` (…//HOST:PORT/TOPIC?group=G). Raises BadSettings."""
    return placed(url, _KNOWN, _EXAMPLE, free=".")


def source_of(url: str) -> KafkaSource:
    """The topic at `url`. Raises BadSettings, MissingExtra."""
    return KafkaSource(place_of(url))


def sink_of(url: str) -> KafkaSink:
    """The topic at `url`. Raises BadSettings, MissingExtra."""
    return KafkaSink(place_of(url))
