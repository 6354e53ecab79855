"""One by one: a client of one connection that waits for every answer before it ends.

wrk stops in the middle of a request. With few and long requests that falsifies what one of
them costs, so they are sent from here. Run by the harness in place of wrk:

    BODY=body.json METHOD=POST python -m benchmarks.one_by_one URL SECONDS [HEADER...]

A header is `name: value`.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.percentiles import percentile

TIMEOUT_S = 30
_JSON = "Content-Type: application/json"


def request_bytes(url: str, method: str, body: bytes, headers: Sequence[str] = (_JSON,)) -> bytes:
    """One HTTP/1.1 request on a connection that stays open."""
    parts = urlsplit(url)
    lines = [
        f"{method} {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        *headers,
        f"Content-Length: {len(body)}",
        "\r\n",
    ]
    return "\r\n".join(lines).encode() + body


def status_and_length(head: bytes) -> tuple[int, int]:
    """What an answer's head says of its status and the length of its body.

    Raises ValueError when there is no Content-Length: these clients know nothing else.
    """
    first, *fields = head.split(b"\r\n")
    for field in fields:
        name, _, value = field.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(first.split(b" ", 2)[1]), int(value)
    raise ValueError(f"an answer without Content-Length: {head[:200]!r}")


def _exchange(connection: socket.socket, request: bytes, buffer: memoryview) -> int:
    """Send `request`, read its whole answer into `buffer`, and return the status."""
    connection.sendall(request)
    have, end = 0, -1
    while end < 0:
        have += _receive(connection, buffer[have:])
        end = bytes(buffer[:have]).find(b"\r\n\r\n")
    status, length = status_and_length(bytes(buffer[:end]))
    while have < end + 4 + length:
        have += _receive(connection, buffer[have:])
    return status


def _receive(connection: socket.socket, buffer: memoryview) -> int:
    if not buffer:
        raise ConnectionError("the answer is larger than the buffer")
    if (count := connection.recv_into(buffer)) == 0:
        raise ConnectionError("the server closed the connection")
    return count


def work(url: str, request: bytes, seconds: float) -> dict[str, float]:
    """What it took to send `request` again and again, in the words of post.lua."""
    parts = urlsplit(url)
    buffer = memoryview(bytearray(64 * 2**20))
    took: list[float] = []
    refused = broken = 0
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        while not broken and time.perf_counter() - began < seconds:
            before = time.perf_counter()
            try:
                refused += _exchange(connection, request, buffer) > 399
            except OSError:
                broken += 1
            else:
                took.append(time.perf_counter() - before)
        spent = time.perf_counter() - began
    shares = {f"p{n}_us": percentile(took, n) * 1e6 if took else 0.0 for n in (50, 90, 99)}
    return {
        "requests": len(took),
        "seconds": spent,
        **shares,
        "refused": refused,
        "broken": broken,
    }


def main() -> None:
    """Send the body, and print what that took."""
    url, seconds, *headers = sys.argv[1:]
    body = Path(os.environ["BODY"]).read_bytes()
    request = request_bytes(url, os.environ["METHOD"], body, headers)
    print(json.dumps(work(url, request, float(seconds))))


if __name__ == "__main__":
    main()
