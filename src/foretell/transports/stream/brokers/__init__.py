"""A broker's kind is the scheme of its URL; its module is imported when it is asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from foretell.errors import BadSettings
from foretell.transports.stream.message import Sink, Source

KINDS = {
    "file": "foretell.transports.stream.lines",
    "redis": "foretell.transports.stream.brokers.redis_streams",
    "amqp": "foretell.transports.stream.brokers.rabbitmq",
    "kafka": "foretell.transports.stream.brokers.kafka",
    "mqtt": "foretell.transports.stream.brokers.mqtt",
    "nats": "foretell.transports.stream.brokers.nats_jetstream",
}
"""Where `source_of(url)` and `sink_of(url)` of a kind are; `-` and `stderr` are files, too."""

TRANSACTED = {"kafka": "foretell.transports.stream.brokers.kafka_transactions"}
"""Where `transacted_of(source, sink, dead)` of a kind is."""

_PLAIN = {
    "amqps": "amqp",
    "kafka+ssl": "kafka",
    "mqtts": "mqtt",
    "nats+tls": "nats",
    "rediss": "redis",
}

KNOWN = (
    "kafka://HOST:PORT/TOPIC, nats://HOST:PORT/SUBJECT, amqp://HOST:PORT/QUEUE, "
    "mqtt://HOST:PORT/TOPIC, redis://HOST:PORT/STREAM"
)


def source_of(url: str) -> Source:
    """What `url` says, opened for reading. Raises BadSettings, StoreFailed."""
    found: Source = _opener(url, "--from", "source_of")
    return found


def sink_of(url: str, flag: str) -> Sink:
    """What `url` says, opened for writing. Raises BadSettings, StoreFailed."""
    found: Sink = _opener(url, flag, "sink_of")
    return found


def transacted_of(source: str, sink: str, dead: str) -> tuple[Source, Sink, Sink | None]:
    """A source and sinks whose messages are acknowledged with what they became, or not at all.

    Of dead letters that go elsewhere there is none. Raises BadSettings, StoreFailed.
    """
    kinds = {_kind_of(url) for url in (source, sink)}
    if len(kinds) > 1 or not kinds <= TRANSACTED.keys():
        raise BadSettings(
            f"--exactly-once: from {source} to {sink} there are no transactions; they are "
            "from kafka:// to kafka://"
        )
    module = import_module(TRANSACTED[kinds.pop()])
    found: tuple[Source, Sink, Sink | None] = module.transacted_of(source, sink, dead)
    return found


def _kind_of(url: str) -> str:
    scheme = url.partition(":")[0]
    return _PLAIN.get(scheme, scheme)


def _opener(url: str, flag: str, name: str) -> Any:
    kind, (_, colon, place) = _kind_of(url), url.partition(":")
    if url == "-" or (url == "stderr" and name == "sink_of"):
        kind, place = "file", url
    elif not colon or kind not in KINDS or not place:
        raise BadSettings(f"{flag} {url}: name file:PATH, {KNOWN}, or - for this end of a pipe")
    elif kind == "file":
        # file:///tmp/x as browsers have it, file:x as people write it
        place = place.removeprefix("//")
        place = f"./{place}" if place in ("-", "stderr") else place
    opener: Callable[[str], Any] = getattr(import_module(KINDS[kind]), name)
    return opener(place if kind == "file" else url)
