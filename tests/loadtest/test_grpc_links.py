"""gRPC over a link of the load test, against a server of h2, which refuses what HTTP/2 forbids."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded
from h2.settings import SettingCodes, Settings

from foretell.client.calling import Request
from foretell.errors import NoAnswer
from foretell.loadtest.payloads import Payload, Protocol
from foretell.loadtest.recording import Second
from foretell.loadtest.running import Outcome, Plan, Run
from foretell.loadtest.sending.links import Place
from tests.loadtest.stub import serving

pytestmark = pytest.mark.slow  # each starts a server of HTTP/2

MESSAGE = b"answered"
OK = (("grpc-status", "0"),)
Windows = dict[SettingCodes, int]


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


class Door(asyncio.Protocol):
    """One connection of a gRPC server: `answer` is called with each whole call."""

    def __init__(
        self, answer: "Answer", settings: dict[SettingCodes, int], seen: list["Door"]
    ) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = Settings(client=False, initial_values=settings)
        self.answer, self.seen = answer, seen
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.calls = 0
        self.is_leaving = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.seen.append(self)
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self.is_leaving:
            return
        for event in self.h2.receive_data(data):
            if not self.is_leaving:
                self.take(event)
        self.flush()

    def take(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(at), headers=headers):
                self.headers[at] = dict(cast("list[tuple[str, str]]", headers))
                self.bodies[at] = b""
            case DataReceived(stream_id=int(at), data=bytes(data)):
                self.bodies[at] += data
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, at)
            case StreamEnded(stream_id=int(at)):
                self.calls += 1
                self.answer(self, at)

    def well(self, at: int, message: bytes = MESSAGE) -> None:
        self.h2.send_headers(at, ((":status", "200"), ("content-type", "application/grpc")))
        self.h2.send_data(at, framed(message))
        self.h2.send_headers(at, OK, end_stream=True)

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())


Answer = Callable[[Door, int], None]


@asynccontextmanager
async def door(
    answer: Answer, settings: dict[SettingCodes, int]
) -> AsyncIterator[tuple[Place, list[Door]]]:
    seen: list[Door] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Door(answer, settings, seen), "127.0.0.1", 0)
    async with server:
        yield Place("127.0.0.1", server.sockets[0].getsockname()[1], api_key="k"), seen
        for one in seen:
            one.transport.abort()


def payload(message: bytes) -> Payload:
    request = Request("/a.Service/Call", message, headers={"model-name": "m" * 200})

    def read(_head: bytes, body: bytes) -> int:
        return 1 if body == MESSAGE else 0

    return Payload(Protocol.GRPC, (request,), 1, b"", read)


def unwatched(_second: Second) -> None:
    pass


def carried_out(
    answer: Answer, message: bytes = b"asked", settings: Windows | None = None
) -> tuple[Outcome, list[Door]]:
    how = Plan(rate=100, concurrency=16, duration_s=0.5, warmup_s=0, timeout_s=1.0)

    async def work() -> tuple[Outcome, list[Door]]:
        async with door(answer, settings or {}) as (place, seen):
            return await Run(payload(message), place, how, unwatched).carry_out(), seen

    return asyncio.run(work())


def test_calls_are_sent_as_grpc_has_them_and_answers_are_read() -> None:
    outcome, seen = carried_out(Door.well)
    assert outcome.recording.answered == 50
    assert outcome.recording.reply_bytes == 50 * len(MESSAGE)
    assert outcome.unread is None
    assert outcome.checked
    told, body = seen[0].headers[1], seen[0].bodies[1]
    assert body == framed(b"asked")
    assert told[":path"] == "/a.Service/Call"
    assert told["te"] == "trailers"
    assert told["model-name"] == "m" * 200
    assert told["authorization"] == "Bearer k"


def test_messages_larger_than_windows_and_frames_arrive_whole() -> None:
    message = bytes(range(256)) * 400  # h2 raises when a window is overrun
    outcome, seen = carried_out(Door.well, message, {SettingCodes.INITIAL_WINDOW_SIZE: 10_000})
    assert outcome.recording.answered == 50
    assert all(body == framed(message) for one in seen for body in one.bodies.values())


def test_no_more_streams_than_the_server_allows() -> None:
    outcome, _ = carried_out(Door.well, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    assert outcome.recording.answered == 50  # h2 raises when there is one too many


def refuse(one: Door, at: int) -> None:
    told = ((":status", "200"), ("grpc-status", "5"), ("grpc-message", "no model%20'm'"))
    one.h2.send_headers(at, told, end_stream=True)


def cut(one: Door, at: int) -> None:
    one.h2.send_headers(at, ((":status", "200"),))
    one.h2.send_data(at, framed(MESSAGE)[:-1])
    one.h2.send_headers(at, OK, end_stream=True)


def bare(one: Door, at: int) -> None:
    one.h2.send_headers(at, ((":status", "200"),))
    one.h2.send_data(at, framed(MESSAGE), end_stream=True)


def reset(one: Door, at: int) -> None:
    one.h2.reset_stream(at, 11)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refuse, "gRPC status 5: no model 'm'"),
        (cut, "a message that is not whole"),
        (bare, "the answer ended without a status"),
        (reset, "the stream was reset (HTTP/2 error 11)"),
        (lambda _one, _at: None, "no answer within the timeout"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: Answer, why: str) -> None:
    outcome, _ = carried_out(answer)
    told = dict(outcome.recording.errors)
    assert sum(told.values()) + outcome.unsent == 50
    assert why in told


def test_a_server_that_leaves_is_asked_on_another_connection() -> None:
    def leave(one: Door, at: int) -> None:
        one.well(at)
        if one.calls == 5:
            one.h2.close_connection(last_stream_id=at)
            one.is_leaving = True

    outcome, seen = carried_out(leave)
    late = outcome.recording.errors.pop("the server is leaving", 0)  # they came after the fifth
    assert (outcome.recording.answered + late, dict(outcome.recording.errors)) == (50, {})
    assert outcome.recording.answered >= 25
    assert len(seen) >= 5


def test_a_server_of_http1_only_is_told_apart() -> None:
    how = Plan(rate=None, concurrency=1, duration_s=0.1, warmup_s=0, timeout_s=1.0)

    async def work() -> None:
        async with serving(lambda _number, now: now) as (place, _):
            await Run(payload(b""), place, how, unwatched).carry_out()

    with pytest.raises(NoAnswer, match="over grpc"):
        asyncio.run(work())
