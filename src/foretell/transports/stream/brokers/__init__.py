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


def _opener(url: str, flag: str, name: str) -> Any:
    scheme, colon, place = url.partition(":")
    kind = _PLAIN.get(scheme, scheme)
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
