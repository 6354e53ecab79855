"""What a process that leaves does with its connections."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import pytest
from starlette.types import Message, Receive, Scope, Send

from foretell.app.serving.leaving import closing
from foretell.app.serving.lingering import Lingering
from foretell.engine.notice import Notice


@pytest.fixture(scope="module")
def alone() -> Iterator[Executor]:
    """A process without what other tests left open: every connection that there is, is held."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@contextmanager
def link() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection: a server's and a client's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=10) as theirs,
    ):
        ours, _ = listener.accept()
        with ours:
            yield ours, theirs


def farewell(held: bool) -> tuple[bytes, bytes]:
    """What a client reads that was sending while its server said farewell and closed."""
    lingering = Lingering()
    with link() as (ours, theirs):
        if held:
            lingering.hold()
        ours.sendall(b"farewell")
        theirs.sendall(b"one more call")
        ours.close()  # with that call unread, this alone resets the connection
        lingering.hold()
        theirs.sendall(b"and another")
        read = theirs.recv(100), theirs.recv(100)
        theirs.close()
        lingering.hold()  # closes the client's end
        lingering.hold()  # sees that it is
        return read


def held_until_the_client_has_left() -> list[int]:
    lingering = Lingering()
    counts = []
    with link() as (ours, theirs):
        lingering.hold()
        ours.close()
        lingering.hold()
        counts.append(len(lingering))
        theirs.close()
        lingering.hold()  # closes the client's end
        lingering.hold()  # sees that it is
        counts.append(len(lingering))
    return counts


def test_a_client_reads_the_farewell_although_it_was_just_sending(alone: Executor) -> None:
    assert alone.submit(farewell, held=True).result(30) == (b"farewell", b"")


def test_a_reset_is_what_happens_otherwise(alone: Executor) -> None:
    with pytest.raises(ConnectionError):
        alone.submit(farewell, held=False).result(30)


def test_a_connection_is_let_go_when_its_client_is(alone: Executor) -> None:
    both_ends = 2  # they are in one process
    assert alone.submit(held_until_the_client_has_left).result(30) == [both_ends, 0]


def headers_of(notice: Notice, http_version: str) -> list[tuple[bytes, bytes]]:
    """What reaches a client of an application with headers of its own."""
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"x-own", b"1"), (b"Connection", b"keep-alive")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody reads")

    async def ask() -> None:
        scope = {"type": "http", "http_version": http_version}
        await closing(app, notice)(scope, receive, send)

    asyncio.run(ask())
    told: list[tuple[bytes, bytes]] = sent[0]["headers"]
    return told


def test_answers_close_the_connection_once_the_process_leaves() -> None:
    notice = Notice()
    assert (b"connection", b"close") not in headers_of(notice, "1.1")
    notice.give(stopping=False)
    assert headers_of(notice, "1.1") == [(b"x-own", b"1"), (b"connection", b"close")]
    # HTTP/2 forbids the header.
    assert headers_of(notice, "2")[1] == (b"Connection", b"keep-alive")


def test_who_arrives_after_a_notice_is_not_meant() -> None:
    notice = Notice()
    notice.give(stopping=False)
    assert (notice.leaving, notice.stopping) == (True, False)
    notice.arrive()
    assert not notice.leaving
    notice.give(stopping=True)
    assert (notice.leaving, notice.stopping) == (True, True)
