"""Kafka's transactions: results and the offsets they came from are there together, or not at all.

What is published is held until its messages are acknowledged; then one transaction has both. One
that fails is ended by another producer of that name, and the group is asked what it has: then it
is known whether to try again. A member that the group has given up on forgets what it held, and
joins anew behind what was committed. Readers see nothing twice who read `read_committed`.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from foretell.errors import BadSettings, StoreFailed
from foretell.transports.stream.brokers.kafka import OPEN, KafkaSource, behind, place_of
from foretell.transports.stream.brokers.kafka_client import COORDINATOR_S, Client, Partition
from foretell.transports.stream.brokers.places import Place
from foretell.transports.stream.message import Message, Record, Sink, Source

_log = logging.getLogger("foretell.stream")
_HANGS_S = 3 * COORDINATOR_S
_TIMEOUT_MS = 20_000  # readers wait so long for what a killed process without a name had begun


class Transactions:
    """Those of one producer, one after the other."""

    def __init__(self, place: Place, name: str) -> None:
        self._client, self._name = Client(place), name
        self._producer: Any = None
        self._held: list[tuple[str, Sequence[Record]]] = []

    def hold(self, topic: str, records: Sequence[Record]) -> None:
        """These are in the next transaction."""
        self._held.append((topic, records))

    @property
    def empty(self) -> bool:
        """Whether the next one has nothing."""
        return not self._held

    async def commit(
        self, group: Any, offsets: Sequence[Any], settled: Callable[[], Awaitable[bool]]
    ) -> bool:
        """What is held and `offsets` are there: whether the group has not moved on meanwhile.

        `group` is the consumer's metadata, None of no member; `settled` tells whether the group
        has `offsets` already, and is asked when that is not known. Raises StoreFailed.
        """
        client, tried, moved_on = self._client, False, group is None
        while True:
            failed: list[Any] = []
            try:
                producer = await client.call(self._started)
                if moved_on or (tried and await settled()):
                    break
                tried = True
                trying = client.call(self._tried, producer, group, offsets, failed)
                await asyncio.wait_for(trying, _HANGS_S)
            except client.kafka.KafkaException as error:
                told = failed[0] if failed else error.args[0]
                client.check_record(client.refused or told)
                client.broken, self._producer = None, None
                moved_on = moved_on or client.moved_on(told)
                if not moved_on:
                    await client.outage.sit_out(told.str())
            except TimeoutError:
                client.abandon()
                self._producer = None
                await client.outage.sit_out("librdkafka hangs")
            else:
                break
        self._held.clear()
        client.outage.over()
        return not moved_on

    def _started(self) -> Any:
        """A producer; whatever another one of its name had begun is at an end.

        One whose broker was away is not used again: it may wait for one that is gone, without end
        and with a core of its own (librdkafka's issues 5456 and 5511).
        """
        if self._producer is not None:
            self._producer.poll(0)  # tells what was lost
        if self._producer is None or self._client.lost:
            self._client.lost = False
            producer = self._client.producer(
                transactional_id=self._name, transaction_timeout_ms=_TIMEOUT_MS
            )
            producer.init_transactions(COORDINATOR_S)
            self._producer = producer
        return self._producer

    def _tried(self, producer: Any, group: Any, offsets: Sequence[Any], failed: list[Any]) -> None:
        def out(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error)

        producer.begin_transaction()
        for topic, records in self._held:
            self._client.produced(producer, topic, records, out)
        producer.send_offsets_to_transaction(list(offsets), group, COORDINATOR_S)
        producer.commit_transaction(COORDINATOR_S)

    def close(self) -> None:
        """No transaction is under way."""
        self._client.close()


class TransactedSource(KafkaSource):
    """A member of a group whose offsets are in the transactions of what became of its messages."""

    def __init__(self, place: Place, transactions: Transactions) -> None:
        super().__init__(place)
        self._transactions = transactions
        self._group: Any = None  # as it was when messages were taken

    def _polled(self, most: int) -> list[Message]:
        found = super()._polled(most)
        if found:
            member = self._consumer.memberid()
            self._group = self._consumer.consumer_group_metadata() if member else None
        return found

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Offsets up to these are there, and so is what was published for them."""
        if self._transactions.empty:
            await super().acknowledge(messages)
            return
        offsets = behind(messages)
        told = self._client.placed(offsets, OPEN)

        async def settled() -> bool:
            return await self._client.call(self._has, offsets)

        if await self._transactions.commit(self._group, told, settled):
            self._next |= offsets
        else:
            _log.warning("the group has moved on; what was not committed is done again")
            await self._client.call(self._anew)

    def _has(self, offsets: dict[Partition, int]) -> bool:
        self._client.check()
        committed = self._consumer.committed(
            self._client.placed(offsets, ""), timeout=COORDINATOR_S
        )
        return all(one.offset >= offsets[one.topic, one.partition] for one in committed)

    def _anew(self) -> None:
        """Join the group again: reading goes on behind what is committed. Raises StoreFailed."""
        try:
            self._consumer.unsubscribe()
        except self._client.kafka.KafkaException as failed:
            self._consumer.poll(0)  # tells why
            self._client.check()
            raise StoreFailed(f"Kafka refuses: {failed.args[0].str()}") from None
        self._subscribed = False
        self._forget([*self._held])

    async def close(self) -> None:
        """Leave the group: others take over at once."""
        await super().close()
        self._transactions.close()


class TransactedSink:
    """A topic; what goes there is held until its messages are acknowledged."""

    def __init__(self, topic: str, transactions: Transactions) -> None:
        self._topic, self._transactions = topic, transactions

    async def publish(self, records: Sequence[Record]) -> None:
        """Hold `records` for the transaction."""
        self._transactions.hold(self._topic, records)

    async def close(self) -> None:
        """The source closes what they share."""


def transacted_of(source: str, sink: str, dead: str) -> tuple[Source, Sink, Sink | None]:
    """Source and sink that share transactions, and that of dead letters, if it is one of them.

    Raises BadSettings, MissingExtra.
    """
    come, go = place_of(source), place_of(sink)
    if come.server != go.server:
        raise BadSettings(
            f"--exactly-once: {come.server} and {go.server} have no transactions in common; "
            "write the same server in --from and --to"
        )
    member = come.options.get("group.instance.id") or uuid.uuid4().hex
    transactions = Transactions(go, f"foretell-{come.options['group']}-{come.name}-{member}")
    letters = None
    if dead.partition(":")[0] in ("kafka", "kafka+ssl"):
        place = place_of(dead)
        if place.server == go.server:
            if place != go._replace(name=place.name):
                raise BadSettings("--exactly-once: write --dead-letters as --to, but for the topic")
            letters = TransactedSink(place.name, transactions)
    return TransactedSource(come, transactions), TransactedSink(go.name, transactions), letters
