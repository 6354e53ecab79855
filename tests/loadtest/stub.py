"""A server whose latencies are known: it answers when it is told to, and keeps a book of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from foretell.client.calling import Request
from foretell.loadtest.payloads import Payload, Protocol
from foretell.loadtest.sending.links import Place

AnswerAt = Callable[[int, float], float]
BODY = b'{"prediction":1}'


@dataclass(slots=True)
class Book:
    """When requests came and when they were answered, in the order in which they came."""

    came: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    open: set[asyncio.Transport] = field(default_factory=set)

    def since_due(self, rate: float, first: int) -> list[float]:
        """Latencies from when requests were due, beginning with one of them."""
        # no request comes before it is due: the one with the least delay tells when all were
        start = min(came - number / rate for number, came in enumerate(self.came))
        return [
            answered - (start + (first + number) / rate)
            for number, answered in enumerate(self.answered[first:])
        ]


def reply(status: str = "200 OK", body: bytes = BODY, headers: str = "") -> bytes:
    """A whole HTTP reply."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class Conversation(asyncio.Protocol):
    """One connection of the server."""

    def __init__(self, book: Book, answer_at: AnswerAt, replies: Sequence[bytes]) -> None:
        self.book, self.answer_at, self.replies = book, answer_at, replies
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.book.open.add(self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.book.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\n{}"), data  # a small request comes in one piece
        now, number = time.monotonic(), len(self.book.came)
        self.book.came.append(now)
        self.book.answered.append(now)
        self.book.under_way += 1
        self.book.most_under_way = max(self.book.most_under_way, self.book.under_way)
        wait_s = self.answer_at(number, now) - now
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self.answer, number)
        else:
            self.answer(number)

    def answer(self, number: int) -> None:
        self.book.under_way -= 1
        self.transport.write(self.replies[number % len(self.replies)])
        # in the next turn of the loop, when the client can read it, too
        asyncio.get_running_loop().call_soon(self.note, number)

    def note(self, number: int) -> None:
        self.book.answered[number] = time.monotonic()


@asynccontextmanager
async def serving(
    answer_at: AnswerAt, replies: Sequence[bytes] = (reply(),)
) -> AsyncIterator[tuple[Place, Book]]:
    """A server that answers request n, which came at `now`, at `answer_at(n, now)`."""
    book = Book()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Conversation(book, answer_at, replies), "127.0.0.1", 0
    )
    async with server:
        yield Place("127.0.0.1", server.sockets[0].getsockname()[1]), book
        for transport in list(book.open):
            transport.abort()


def payload(body: bytes = b"{}", rows: int = 1) -> Payload:
    """A payload of one request, of whose answers nothing is asked but how they begin."""
    request = Request("/predict", body, headers={"content-type": "application/json"})
    return Payload(Protocol.REST, (request,), rows, b"{", lambda _head, _body: rows)
