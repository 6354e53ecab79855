"""A place is what a broker's URL says: the server, the name there, and options."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from foretell.errors import BadSettings
from foretell.transports.stream.brokers.tls import OPTIONS, Tls

SECURE = ("amqps", "kafka+ssl", "mqtts", "nats+tls", "rediss")
"""Schemes that ask for TLS."""


class Place(NamedTuple):
    """A name at a server; `server` has no user and no password. Without `tls` all goes in clear."""

    server: str
    name: str
    options: dict[str, str]
    user: str | None
    password: str | None
    tls: Tls | None = None

    def seconds(self, option: str) -> float:
        """The option as a number of seconds above 0. Raises BadSettings."""
        try:
            told = float(self.options[option])
        except ValueError:
            told = 0.0
        if not 0 < told < float("inf"):
            raise BadSettings(f"{option}={self.options[option]}: write a number of seconds above 0")
        return told


def placed(url: str, known: Mapping[str, str], example: str, *, free: str = "") -> Place:
    """`url` (KIND://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE) with the options that are `known`.

    Options whose name has the character `free` in it are left to the broker's library. Those of TLS
    are of each broker. Raises BadSettings, which says it as in `example`.
    """
    told = urlsplit(url)
    options = dict(parse_qsl(told.query))
    own = Tls(*(options.pop(name, "") for name in OPTIONS))
    if any(own) and told.scheme not in SECURE:
        secure = next(one for one in SECURE if one.startswith(told.scheme))
        raise BadSettings(f"ca, cert and key are of TLS; begin the URL with {secure}://")
    if own.key and not own.cert:
        raise BadSettings("key=FILE needs the certificate, too: cert=FILE")
    wrong = [name for name in options if name not in known and not (free and free in name)]
    server, name = told.netloc.rpartition("@")[2], unquote(told.path.removeprefix("/"))
    if not server or not name or wrong:
        raise BadSettings(f"write it as in {example}")
    user, password = (
        None if one is None else unquote(one) for one in (told.username, told.password)
    )
    tls = own if told.scheme in SECURE else None
    return Place(server, name, {**known, **options}, user, password, tls)
