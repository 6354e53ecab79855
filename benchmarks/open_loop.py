"""The open loop: a client that sends at a fixed rate, however slowly the answers come.

wrk sends the next request when the last one was answered, so it cannot offer more than a
server takes. Here each request has its moment, and its latency counts from that moment on. It
goes over a connection that is free then, or a new one. Run pinned by overload.py and caches.py:

    BODIES=bodies.ndjson python -m benchmarks.open_loop URL RATE SECONDS

Each line is a body; they are sent in turn, again and again.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from benchmarks.one_by_one import request_bytes, status_and_length
from benchmarks.percentiles import percentile

LAST_ANSWERS_S = 10


@dataclass(slots=True)
class Tally:
    """What came back: latencies in seconds of the accepted and of the shed."""

    accepted: list[float] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    other: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, answers: int) -> None:
        """Until so many came."""
        while len(self.accepted) + len(self.shed) + self.other < answers:
            self.came.clear()
            await self.came.wait()

    def lose(self) -> None:
        """An answer will never come."""
        self.other += 1
        self.came.set()

    def count(self, head: bytes, status: int, latency: float) -> None:
        """One answer came: 200 is accepted; 429 is shed, and has to say when to come back."""
        if status == 200:
            self.accepted.append(latency)
        elif status == 429:
            self.shed.append(latency)
            self.without_retry_after += b"\r\nretry-after:" not in head.lower()
        else:
            self.other += 1
        self.came.set()


class Connection(asyncio.Protocol):
    """One keep-alive connection, with one request at a time on it."""

    def __init__(self, tally: Tally, free: list["Connection"]) -> None:
        self._tally = tally
        self._free = free
        self._received = b""
        self._due: float | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        """Send `request`, whose moment was `due` (time.perf_counter)."""
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def close(self) -> None:
        """Hang up; what is still awaited is given up."""
        assert self._transport is not None
        self._due = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end or self._due is None:
            return
        status, length = status_and_length(head)
        if len(rest) >= length:
            self._tally.count(head, status, time.perf_counter() - self._due)
            self._received, self._due = rest[length:], None
            self._free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due is not None:
            self._tally.lose()
            self._due = None
        elif self in self._free:
            self._free.remove(self)


async def offer(
    url: str, requests: Sequence[bytes], rate: float, seconds: float
) -> dict[str, float]:
    """Send `requests` in turn at `rate` a second for so long; what came of it."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    loop = asyncio.get_running_loop()
    tally, free = Tally(), list[Connection]()
    began = time.perf_counter()
    late = 0.0
    sent = 0
    opened: list[Connection] = []
    while sent < rate * seconds:
        due = began + sent / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        late = max(late, time.perf_counter() - due)
        if free:
            connection = free.pop()
        else:
            _, connection = await loop.create_connection(
                lambda: Connection(tally, free), host, port
            )
            opened.append(connection)
        connection.send(requests[sent % len(requests)], due)
        sent += 1
    spent = time.perf_counter() - began
    in_time = len(tally.accepted)
    with contextlib.suppress(TimeoutError):  # what has not come by then is counted as other
        async with asyncio.timeout(LAST_ANSWERS_S):
            await tally.wait_for(sent)
    for connection in opened:
        connection.close()
    await asyncio.sleep(0)  # the turn in which they are closed
    return {
        "offered_per_s": sent / spent,
        "accepted_per_s": in_time / spent,
        "accepted": len(tally.accepted),
        "shed": len(tally.shed),
        "without_retry_after": tally.without_retry_after,
        "other": sent - len(tally.accepted) - len(tally.shed),
        "connections": len(opened),
        "most_late_ms": late * 1e3,
        **_latencies("accepted", tally.accepted),
        **_latencies("shed", tally.shed),
    }


def _latencies(name: str, took: list[float]) -> dict[str, float]:
    shares = (50, 99)
    return {f"{name}_p{n}_ms": percentile(took, n) * 1e3 if took else 0.0 for n in shares}


def main() -> None:
    """Offer the bodies, and print what came of it as one JSON line."""
    url, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    bodies = Path(os.environ["BODIES"]).read_bytes().splitlines()
    requests = [request_bytes(url, "POST", body) for body in bodies]
    print(json.dumps(asyncio.run(offer(url, requests, rate, seconds))))


if __name__ == "__main__":
    main()
