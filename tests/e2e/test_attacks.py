"""Hostile peers: while they do what they do, others are answered and memory stays bounded."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.servers import STOP_S, Server, running

pytestmark = pytest.mark.slow

ROW = {"age": 35, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}
IDLE = 10_000
MOST_GROWN = 200 * 2**20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture(scope="module")
def server(churn: Path) -> Iterator[Server]:
    with running(churn) as server:
        yield server


def connected(server: Server) -> socket.socket:
    place = urlsplit(server.url)
    assert place.hostname is not None
    return socket.create_connection((place.hostname, place.port or 0), timeout=STOP_S)


def held(server: Server) -> int:
    """The memory of the server and its workers."""
    pages = 0
    left = [server.process.pid]
    while left:
        place = Path("/proc", str(left.pop()))
        pages += int((place / "statm").read_text().split()[1])
        for task in (place / "task").iterdir():
            left += map(int, (task / "children").read_text().split())
    return pages * resource.getpagesize()


def assert_others_are_answered(server: Server, before: int) -> None:
    for _ in range(20):
        told = httpx.post(f"{server.url}/predict", json=ROW, timeout=STOP_S)
        assert told.status_code == 200, told.text
    assert held(server) - before < MOST_GROWN


def ended(peer: socket.socket) -> bool:
    """Whether the server ends the connection, with or without a reply."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def test_headers_that_never_end_are_cut_off_and_hold_nobody_up(server: Server) -> None:
    before = held(server)
    with ExitStack() as stack:
        peers = [stack.enter_context(connected(server)) for _ in range(300)]
        for peer in peers:
            peer.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\nx-slow: ")
        assert_others_are_answered(server, before)
        assert all(ended(peer) for peer in peers[:20])


def test_a_flood_of_headers_is_refused(server: Server) -> None:
    before = held(server)
    for flood in (b"x-%d: y\r\n", b"x-%d: " + b"y" * 30_000 + b"\r\n"):
        for _ in range(20):
            with connected(server) as peer:
                try:
                    peer.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n")
                    peer.sendall(b"".join(flood % number for number in range(2_000)) + b"\r\n")
                    told = peer.recv(64)
                except ConnectionError:
                    continue  # it was cut off while it sent
                assert not told.startswith(b"HTTP/1.1 200"), told
    assert_others_are_answered(server, before)


def test_thousands_of_idle_connections_hold_nobody_up(server: Server) -> None:
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] > IDLE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 1_000), hard))
    before = held(server)
    try:
        with ExitStack() as stack:
            for _ in range(IDLE):
                stack.enter_context(connected(server))
            assert_others_are_answered(server, before)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_others_are_answered(server, before)


def test_streams_that_are_opened_and_reset_at_once_hold_nobody_up(server: Server) -> None:
    # :method GET, :scheme http, :path /, :authority x
    head = b"\x82\x86\x84\x41\x01x"
    before = held(server)
    with ExitStack() as stack:
        for _ in range(5):
            peer = stack.enter_context(connected(server))
            frames = bytearray(PREFACE)
            for stream in range(1, 20_001, 2):
                number = stream.to_bytes(4, "big")
                frames += len(head).to_bytes(3, "big") + b"\1\5" + number + head
                frames += b"\0\0\4\3\0" + number + b"\0\0\0\x08"
            try:
                peer.sendall(frames)
            except ConnectionError:
                continue  # it was cut off, as may be
        assert_others_are_answered(server, before)


def test_deep_nesting_is_refused_with_a_sentence(server: Server) -> None:
    before = held(server)
    for path in ("/predict", "/batch_predict", "/v2/models/churn/infer", "/invocations"):
        for opened in (b"[", b'{"a":'):
            body = opened * 200_000
            told = httpx.post(f"{server.url}{path}", content=body, timeout=STOP_S)
            assert told.status_code in (400, 413), (path, told.text)
    assert_others_are_answered(server, before)
