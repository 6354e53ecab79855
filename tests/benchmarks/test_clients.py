"""The clients count what really came back, over real sockets."""

import asyncio
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
from benchmarks.one_by_one import request_bytes, status_and_length, work
from benchmarks.open_loop import offer

BODY = b'{"x": 1.0}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SHED = b"HTTP/1.1 429 Too Many\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}"
SHED_SILENTLY = b"HTTP/1.1 429 Too Many\r\ncontent-length: 2\r\n\r\n{}"
FAILED = b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}"
HANG_UP = b""


class Answers(socketserver.StreamRequestHandler):
    """Gives the answers in turn, each in two pieces; an empty one is the end of a connection."""

    disable_nagle_algorithm = True
    script: ClassVar[list[bytes]]
    given: ClassVar[int]
    turn: ClassVar[threading.Lock]

    def handle(self) -> None:
        while head := self._head():
            assert self.rfile.read(int(head.lower().partition(b"content-length:")[2])) == BODY
            with self.turn:
                answer = self.script[type(self).given % len(self.script)]
                type(self).given += 1
            if not answer:
                return
            self.wfile.write(answer[:20])
            self.wfile.flush()
            self.wfile.write(answer[20:])

    def _head(self) -> bytes:
        head = b""
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            head = line  # the last one is the length
        return head


@contextmanager
def serving(*script: bytes) -> Iterator[str]:
    """The URL of a server that gives the answers of `script` again and again."""
    told = {"script": list(script), "given": 0, "turn": threading.Lock()}
    answers = type("Scripted", (Answers,), told)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), answers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/predict"
        finally:
            server.shutdown()
            thread.join()


def offered(*script: bytes, rate: float, seconds: float) -> dict[str, float]:
    with serving(*script) as url:
        return asyncio.run(offer(url, [request_bytes(url, "POST", BODY)], rate, seconds))


def test_the_open_loop_tells_accepted_shed_and_failed_apart() -> None:
    told = offered(GOOD, GOOD, SHED, SHED_SILENTLY, FAILED, rate=500, seconds=0.2)
    counted = [told[name] for name in ("accepted", "shed", "without_retry_after", "other")]
    assert counted == [40, 40, 20, 20]


def test_an_answer_that_never_comes_is_counted_against_the_server() -> None:
    told = offered(GOOD, HANG_UP, rate=200, seconds=0.1)
    assert [told["accepted"], told["other"]] == [10, 10]


def test_the_open_loop_keeps_its_rate_and_its_connections() -> None:
    before = time.perf_counter()
    told = offered(GOOD, rate=100, seconds=0.3)
    assert time.perf_counter() - before >= 0.29  # the last of 30 is due then
    assert told["accepted"] == 30
    assert told["connections"] < 30


def test_one_by_one_counts_answers_and_refusals_and_ends_with_a_whole_answer() -> None:
    with serving(GOOD, FAILED) as url:
        told = work(url, request_bytes(url, "POST", BODY), 0.05)
    assert told["requests"] >= 2
    assert told["refused"] == told["requests"] // 2
    assert told["broken"] == 0


def test_one_by_one_stops_at_a_broken_connection_and_says_so() -> None:
    with serving(GOOD, HANG_UP) as url:
        told = work(url, request_bytes(url, "POST", BODY), 5)
    assert (told["requests"], told["broken"]) == (1, 1)


def test_an_answer_of_unknown_length_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        status_and_length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")
