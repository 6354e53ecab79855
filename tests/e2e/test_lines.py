"""NDJSON as a stream without an end, over real sockets: answers come while rows are sent.

h2corn hands on a chunked HTTP/1.1 body in pieces of 64 KiB only; over HTTP/2, with a
Content-Length, and under uvicorn, each row is handed on as it comes.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from foretell.packing import pack
from tests.e2e.test_load import Place, serving, until
from tests.servers import Server, running

pytestmark = pytest.mark.slow

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED, ENDLESS = b"Transfer-Encoding: chunked\r\n\r\n", b"Content-Length: 1000000000000\r\n\r\n"
WAIT_S = 20.0


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a model that doubles."""
    folder = tmp_path_factory.mktemp("doubling")
    (folder / "double.py").write_text(
        "import foretell\n"
        "class Double:\n"
        "    signature = foretell.Signature((foretell.Field('x', 'FP64'),),\n"
        "        (foretell.Field('prediction', 'FP64'),), example=(1.0,))\n"
        "    def predict(self, columns):\n"
        "        return columns['x'] * 2\n"
    )
    pack(["double:Double"], repository=folder / "models", python_path=folder)
    return folder / "models"


@pytest.fixture(scope="module", params=["h2corn", "uvicorn"])
def server(request: pytest.FixtureRequest, doubling: Path) -> Iterator[Server]:
    with running(doubling, "--server", request.param) as server:
        yield server


def row(x: object) -> bytes:
    return json.dumps({"x": x}).encode() + b"\n"


class Link:
    """A client's end of one HTTP/1.1 stream."""

    def __init__(self, server: Server, framing: bytes) -> None:
        place = urlsplit(server.url)
        self.socket = socket.create_connection((place.hostname or "", place.port or 80), WAIT_S)
        self._chunked = framing is CHUNKED
        self._left = b""
        self.socket.sendall(HEAD + framing)

    def send(self, body: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(body), body) if self._chunked else body)

    def send_all(self, piece: bytes, most: int) -> None:
        """`piece` again and again, until `most` bytes are sent."""
        for _ in range(most // len(piece)):
            self.send(piece)

    def line(self) -> Any:
        """The next answer; what stands around it (headers, chunk sizes) is left out."""
        while True:
            line, end, rest = self._left.partition(b"\n")
            if end:
                self._left = rest
                if line.startswith(b"{"):
                    return json.loads(line)
                continue
            piece = self.socket.recv(65536)
            assert piece, "the server hung up"
            self._left += piece

    def until_headers(self) -> None:
        while b"\r\n\r\n" not in self._left:
            self._left += self.socket.recv(65536)
        assert self._left.startswith(b"HTTP/1.1 200 ")


@contextmanager
def linked(server: Server, framing: bytes) -> Iterator[Link]:
    link = Link(server, framing)
    with link.socket:
        yield link


def prompt_framing(server: Server) -> bytes:
    """How each row is handed on as it comes, by this server."""
    return CHUNKED if "Uvicorn" in server.log else ENDLESS


def test_each_answer_comes_before_the_next_row_is_sent(server: Server) -> None:
    with linked(server, prompt_framing(server)) as link:
        link.until_headers()
        for number in range(50):
            link.send(row(number))
            assert link.line()["prediction"] == 2 * number
        link.send(b'\n{"x": "one"}\n{"x"')
        assert link.line()["row"] == 50
        link.send(b": 3}\n")
        assert link.line()["prediction"] == 6


def test_a_chunked_body_is_answered_before_it_has_ended_and_ends_cleanly(server: Server) -> None:
    with linked(server, CHUNKED) as link:
        sent = 0
        while sent * 13 < 3 * 65536:
            link.send(b"".join(b'{"x": %6d}\n' % number for number in range(sent, sent + 1000)))
            sent += 1000
        for number in range(5000):
            assert link.line()["prediction"] == 2 * number
        link.socket.sendall(b"0\r\n\r\n")
        for number in range(5000, sent):
            assert link.line()["prediction"] == 2 * number
        link.socket.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        told = b""
        while b"healthy" not in told:  # the connection is as good as new
            told += link.socket.recv(65536)


def test_a_line_may_come_in_pieces_and_many_in_one(server: Server) -> None:
    with linked(server, prompt_framing(server)) as link:
        for byte in row(1) + row(2):
            link.send(bytes([byte]))
        link.send(b"".join(map(row, range(3, 200))))
        assert [link.line()["prediction"] for _ in range(199)] == [2 * n for n in range(1, 200)]


def test_a_stream_that_stays_open_does_not_keep_the_server_from_ending(doubling: Path) -> None:
    with running(doubling, "--shutdown-timeout-s", "1") as server, linked(server, ENDLESS) as link:
        link.send(row(1))
        assert link.line()["prediction"] == 2
        assert server.stop() == 0
        assert "Traceback" not in server.log


class Stream:
    """A client's end of one HTTP/2 stream."""

    def __init__(self, server: Server) -> None:
        place = urlsplit(server.url)
        self.socket = socket.create_connection((place.hostname or "", place.port or 80), WAIT_S)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        headers = [
            (":method", "POST"),
            (":path", "/predict"),
            (":scheme", "http"),
            (":authority", "x"),
            ("content-type", "application/x-ndjson"),
        ]
        self.h2.send_headers(1, headers)
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.ended = False

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def send(self, body: bytes, *, end: bool = False) -> None:
        self.h2.send_data(1, body, end_stream=end)
        self.flush()

    def receive(self) -> None:
        for event in self.h2.receive_data(self.socket.recv(65536)):
            match event:
                case h2.events.ResponseReceived():
                    self.headers = dict(event.headers)
                case h2.events.DataReceived():
                    self.body += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
                case h2.events.StreamEnded():
                    self.ended = True
        self.flush()

    def line(self) -> Any:
        while b"\n" not in self.body:
            self.receive()
        line, _, self.body = self.body.partition(b"\n")
        return json.loads(line)


def test_over_http2_each_answer_comes_before_the_next_row_is_sent(doubling: Path) -> None:
    with running(doubling) as server:
        stream = Stream(server)
        with stream.socket:
            stream.flush()
            while not stream.headers:
                stream.receive()
            assert stream.headers[b"x-model-version"] == b"1.0.0"
            for number in range(50):
                stream.send(row(number))
                assert stream.line()["prediction"] == 2 * number
            stream.send(b'{"x": 7}', end=True)
            assert stream.line()["prediction"] == 14
            while not stream.ended:
                stream.receive()


@pytest.mark.parametrize("http2", [False, True])
def test_a_client_that_sends_all_before_it_reads_gets_all(doubling: Path, http2: bool) -> None:
    """With a known length, the body is read on while nobody reads the answers."""
    rows = 300_000
    body = b"".join(b'{"x": %d}\n' % number for number in range(rows))
    with running(doubling) as server:
        client = httpx.Client(http1=not http2, http2=http2, timeout=60)
        with client:
            reply = client.post(
                f"{server.url}/predict", content=body, headers={"content-type": "application/jsonl"}
            )
    lines = reply.content.splitlines()
    assert len(lines) == rows
    assert json.loads(lines[-1])["prediction"] == 2 * (rows - 1)


def test_while_a_client_does_not_read_nothing_more_is_read_of_it(server: Server) -> None:
    """Answers of a kilobyte for rows of a few bytes: what is not read has to be kept somewhere."""
    most = 64 * 2**20
    with linked(server, CHUNKED) as link:
        link.socket.settimeout(3)
        piece = row("x" * 40) * 1000
        with pytest.raises(TimeoutError):
            link.send_all(piece, most)
        before = memory(server)
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert memory(server) < before + 20
        link.socket.settimeout(WAIT_S)
        for number in range(1000):  # it reads on, and is answered on
            assert link.line()["row"] == number


def memory(server: Server) -> float:
    """MiB of the largest process of a server."""
    from benchmarks.processes import largest_rss_mib

    return largest_rss_mib(server.process.pid)


@pytest.mark.slow
def test_a_client_that_vanishes_ends_its_work(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with serving(place, "--executor", "thread", "--max-batch-rows", "1") as server:
        with linked(server, ENDLESS) as link:
            for number in range(5, 15):
                link.send(row(number))
            place.until_seen(5)  # it runs, and the others wait
        for _ in range(20):  # turns in which the server sees that it left
            assert httpx.get(f"{server.url}/health").status_code == 200
        place.gate.touch()
        told = httpx.post(f"{server.url}/predict", json={"x": 99}, timeout=30)
        assert told.json()["prediction"] == 198
        assert set(place.seen) & set(range(6, 15)) == set()
        assert "Traceback" not in server.log


@pytest.mark.slow
def test_many_clients_that_vanish_leave_nothing_behind(server: Server) -> None:
    for number in range(200):
        with linked(server, prompt_framing(server)) as link:
            link.send(row(number) * 50 + b'{"x"')
            if number % 2:
                link.line()
    until(lambda: httpx.get(f"{server.url}/health").status_code == 200)
    assert "Traceback" not in server.log
    assert "never retrieved" not in server.log
