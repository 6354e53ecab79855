"""A link is one connection to the server, which carries one request at a time or several.

It tells its driver when it is free for another request, and what came of each. Links make their
messages from payloads beforehand: to send is to write bytes that are there.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from foretell.errors import BadSettings

SILENT = "no answer within the timeout"
"""Why a request failed that was given up: it would have taken longer."""
GONE = "the server closed the connection before it answered"

_PORTS = {"http": 80, "https": 443, "grpc": 50051, "grpcs": 50051}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server is."""

    host: str
    port: int
    path: str = ""
    cafile: Path | None = None
    secure: bool = False
    api_key: str | None = None

    @classmethod
    def of(cls, url: str, *, cafile: Path | None = None, api_key: str | None = None) -> Place:
        """The place that a URL names; a client has judged it before. Raises BadSettings."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise BadSettings(f"{url!r} is no address of a server; write http://HOST:PORT")
        return cls(
            parts.hostname,
            parts.port or _PORTS[parts.scheme],
            parts.path.rstrip("/"),
            cafile,
            parts.scheme in ("https", "grpcs"),
            api_key,
        )

    @property
    def authority(self) -> str:
        """What requests call the server."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def tls(self, protocol: str) -> ssl.SSLContext | None:
        """How connections are secured, to speak `protocol`. Raises BadSettings."""
        if not self.secure:
            return None
        try:
            context = ssl.create_default_context(cafile=self.cafile)
        except OSError as error:  # ssl.SSLError is one
            raise BadSettings(f"the certificates {self.cafile} cannot be used: {error}") from error
        context.set_alpn_protocols([protocol])
        return context


@dataclass(frozen=True, slots=True)
class Call:
    """A request under way: when it was meant to be sent, and when it was."""

    intended: float
    sent: float


class Driver(Protocol):
    """Who decides what links send, and is told what comes of it. Times are time.monotonic()'s."""

    wants_sample: bool
    """Whether the next answer is to be read in full."""

    def made(self, link: Link) -> None:
        """The connection of `link` is there."""
        ...

    def free(self, link: Link) -> None:
        """`link` can take another request."""
        ...

    def answered(self, call: Call, size: int) -> None:
        """An answer came, its body of `size` bytes."""
        ...

    def sample(self, head: bytes, body: bytes) -> None:
        """An answer's head and body, as asked for."""
        ...

    def failed(self, call: Call, why: str) -> None:
        """There is no answer."""
        ...

    def lost(self, link: Link, why: str) -> None:
        """The connection has ended; what was under way has failed already."""
        ...


class Link(Protocol):
    """What a driver may do with a connection that is free."""

    last_used: float
    is_open: bool
    """Whether anything may be sent any more."""

    def send(self, number: int, call: Call) -> None:
        """Send the request of that number."""
        ...

    def give_up(self, before: float) -> None:
        """Fail the requests that were sent before then."""
        ...

    def close(self) -> None:
        """End the connection; requests under way fail."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        ...
