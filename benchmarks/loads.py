"""A load is one request that is sent again and again, and what sends it.

Rules:

1. Many short requests come from wrk over HTTP/1.1 and from h2load over gRPC; both leave in the
   midst of their last ones. Few and long ones come from `one_by_one`, or from h2load with a
   single call at a time.
2. h2load knows no gRPC status. A failed call has no message, so the bytes that came back tell:
   the answers have the length of the one that was looked at before.
"""

import http.client
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc

from benchmarks.answers import same
from benchmarks.percentiles import percentile

HTTP, GRPC = "http", "grpc"
ANSWERS_WITHIN_S = 10.0
JSON = MappingProxyType({"Content-Type": "application/json"})
GRPC_HEADERS = MappingProxyType({"content-type": "application/grpc", "te": "trailers"})
_SCRIPT = Path(__file__).with_name("post.lua")
_UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
_FRAME = 5
_SUMMARY = re.compile(
    r"finished in (?P<time>[\d.]+)(?P<unit>us|ms|s),.*?"
    r"(?P<started>\d+) started, \d+ done, (?P<succeeded>\d+) succeeded, (?P<failed>\d+) failed, "
    r"(?P<errored>\d+) errored, (?P<late>\d+) timeout.*?"
    r"status codes: (?P<fine>\d+) 2xx.*?"
    r"\((?P<data>\d+)\) data",
    re.DOTALL,
)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent to every server that speaks its `protocol`: one request, for `seconds`.

    Over `connections` at once; over gRPC, each has `streams` calls at once, and `body` is the
    message. `answer` is what every server has to say, `read` from an answer's bytes; None: any
    answer will do. `whole`: few and long requests, of which the last is waited for.
    `answer_bytes` is the length of a server's answer, when one was looked at.
    """

    name: str
    path: str
    body: bytes
    connections: int
    seconds: float
    answer: Any = None
    method: str = "POST"
    whole: bool = False
    protocol: str = HTTP
    streams: int = 1
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    read: Callable[[bytes], Any] = json.loads
    answer_bytes: int | None = None

    @property
    def sent(self) -> bytes:
        """The body as a client's file holds it."""
        if self.protocol == GRPC:
            return b"\0" + len(self.body).to_bytes(4, "big") + self.body
        return self.body

    def is_right(self, body: bytes) -> bool:
        """Whether an answer's bytes say what they should."""
        if self.answer is None:
            return True
        try:
            return same(self.read(body), self.answer)
        except ValueError:  # they are nothing that can be read
            return False


class Reply(NamedTuple):
    """What one request came to: HTTP's or gRPC's status, and the body or message."""

    fine: bool
    status: str
    body: bytes


def ask(root_url: str, load: Load) -> Reply:
    """The reply to the load's request, sent once. Raises OSError when nobody listens."""
    if load.protocol == GRPC:
        return _call(urlsplit(root_url).netloc, load.path, load.body)
    return _request(root_url + load.path, load.method, load.body or None, load.headers)


def is_ready(url: str) -> bool:
    """Whether the URL answers 200; of `grpc://…`, whether that method takes an empty message.

    Raises OSError when nobody listens.
    """
    parts = urlsplit(url)
    if parts.scheme == GRPC:
        return _call(parts.netloc, parts.path, b"").fine
    return _request(url, "GET", None, {}).fine


def _request(url: str, method: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request(method, parts.path, body, dict(headers) if body else {})
        answer = connection.getresponse()
        return Reply(answer.status == 200, str(answer.status), answer.read())
    finally:
        connection.close()


def _call(netloc: str, path: str, message: bytes) -> Reply:
    with grpc.insecure_channel(netloc, options=_UNLIMITED) as channel:
        method: Callable[..., bytes] = channel.unary_unary(path)
        try:
            return Reply(True, "OK", method(message, timeout=ANSWERS_WITHIN_S))
        except grpc.RpcError as error:
            return Reply(False, error.code().name, (error.details() or "").encode())


class Client(NamedTuple):
    """A program that sends a load; `told` makes post.lua's words of what it printed."""

    argv: list[str]
    told: Callable[[str], dict[str, Any]]


def client(url: str, load: Load, seconds: float, folder: Path) -> Client:
    """What sends `load` to `url`; `folder` holds the file `body` of what is `sent`, as $BODY."""
    headers = [f"{name}: {value}" for name, value in load.headers.items()]
    if load.protocol == GRPC:
        log = folder / "calls.tsv"
        argv = ["h2load", "--clients", str(load.connections), "--threads", "1"]
        argv += ["--max-concurrent-streams", str(load.streams)]
        argv += ["--duration", str(math.ceil(seconds)), "--log-file", str(log)]
        argv += [f"--header={header}" for header in headers]
        argv += ["--data", str(folder / "body"), url]
        return Client(argv, lambda output: told_by_h2load(output, log.read_text(), load))
    if load.whole:
        argv = [sys.executable, "-m", "benchmarks.one_by_one", url, str(seconds), *headers]
    else:
        argv = ["wrk", "--threads", "1", "--connections", str(load.connections)]
        argv += ["--duration", f"{math.ceil(seconds)}s", "--timeout", "10s", "--latency"]
        argv += [f"--header={header}" for header in headers]
        argv += ["--script", str(_SCRIPT), url]
    return Client(argv, lambda output: json.loads(output.strip().splitlines()[-1]))


def told_by_h2load(output: str, log: str, load: Load) -> dict[str, Any]:
    """What h2load printed and logged, in the words of post.lua. Raises ValueError."""
    found = _SUMMARY.search(output)
    if found is None:
        raise ValueError(f"h2load did not tell what it measured: {output[-300:]!r}")
    done = int(found["succeeded"])
    broken = sum(int(found[kind]) for kind in ("failed", "errored", "late"))
    # Of those that were on their way at the end, headers and some bytes may have come, too.
    answered = int(found["fine"])
    if load.answer_bytes is not None:
        answered = min(answered, int(found["data"]) // (load.answer_bytes + _FRAME))
    took = [int(line.split("\t")[2]) for line in log.splitlines()]
    shares = {f"p{n}_us": percentile(took, n) if took else 0.0 for n in (50, 90, 99)}
    return {
        "requests": done,
        "seconds": float(found["time"]) * _UNITS[found["unit"]],
        **shares,
        "refused": max(done - answered, 0),
        "broken": broken,
    }
