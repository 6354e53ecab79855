"""A server that leaves ends its streams; clients learn of it, and get what is under way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from foretell.codecs import messages
from foretell.engine.catalogue import Catalogue
from foretell.engine.streaming import in_order
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.grpc import leaving
from foretell.transports.grpc.errors import Code
from foretell.transports.grpc.rpc import Rpc
from foretell.transports.grpc.standard import HEALTH, HealthService
from foretell.transports.grpc.wire import Methods, Streaming, Wire
from tests.transports.test_wire import NOTE, Told, call, echo_all, frame, note


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr("foretell.transports.grpc.standard.LOOK_AGAIN_S", 0.001)


class Looks:
    """Whether the server leaves: not before it was looked at so many times."""

    def __init__(self, before: int) -> None:
        self.left = before

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def ended(methods: Methods, path: str, *pieces: bytes, looks: Callable[[], bool]) -> Told:
    """What a client is told that sends the pieces, and then neither more nor an end."""
    wire = Wire(
        methods, Bodies(2**20), max_message_bytes=1000, max_overhead_bytes=1000, leaving=looks
    )
    hanging = call(path, *pieces, wire=wire, hangs=True)
    return Told(asyncio.run(asyncio.wait_for(hanging, 20)))


@pytest.mark.parametrize("pieces", [[], [frame(note("a"))], [frame(note("a")), frame(note("b"))]])
def test_a_stream_that_waits_for_its_client_ends(pieces: list[bytes]) -> None:
    answer = ended({"/n.S/All": Streaming(NOTE, echo_all)}, "/n.S/All", *pieces, looks=Looks(3))
    assert answer.code == Code.UNAVAILABLE
    assert answer.notes == ["a", "b"][: len(pieces)]
    assert "this server is stopping" in answer.message
    assert b"retry-after" in answer.trailers


@pytest.mark.parametrize("ahead", [False, True], ids=["one by one", "read ahead"])
def test_a_stream_at_work_answers_what_is_under_way_and_reads_no_more(ahead: bool) -> None:
    looked = asyncio.Event()

    def leaves() -> bool:
        looked.set()
        return True

    async def later(request: Any) -> bytes:
        await looked.wait()
        for _ in range(10):
            looked.clear()
            await looked.wait()
        return note(request.name)

    async def answers(requests: AsyncIterator[Any], _: Rpc) -> AsyncIterator[bytes]:
        if ahead:
            async for answer in in_order(requests, later, most=2):
                yield answer.result()
        else:
            async for request in requests:
                yield await later(request)

    sent = b"".join(frame(note(name)) for name in "abcd")
    answer = ended({"/n.S/M": Streaming(NOTE, answers)}, "/n.S/M", sent, looks=leaves)
    assert answer.code == Code.UNAVAILABLE
    # Of those read ahead, the third was on its way when there was no more room for it.
    assert answer.notes == (["a", "b", "c"] if ahead else ["a"])


class Ready:
    """A catalogue whose models are all in service."""

    ready = True


def test_whoever_watches_learns_that_nothing_is_served_any_more_and_then_the_end() -> None:
    health = HealthService(cast("Catalogue", Ready()), (HEALTH,), looks := Looks(5))
    request = messages.message("grpc.health.v1.HealthCheckRequest")
    sent = frame(request(service=HEALTH).SerializeToString())
    answer = ended(health.methods(), f"/{HEALTH}/Watch", sent, looks=looks)
    kind = messages.message("grpc.health.v1.HealthCheckResponse")
    told = [kind.FromString(part).status for part in parts(answer.body)]
    assert told == [kind.SERVING, kind.NOT_SERVING]
    assert answer.code == Code.UNAVAILABLE
    # Whoever only checks asks for the server, which goes on when one worker is replaced.
    once = Told(asyncio.run(checked(health, sent)))
    assert [kind.FromString(part).status for part in parts(once.body)] == [kind.SERVING]


async def checked(health: HealthService, sent: bytes) -> list[Any]:
    wire = Wire(health.methods(), Bodies(1), max_message_bytes=1000, max_overhead_bytes=1000)
    return await call(f"/{HEALTH}/Check", sent, wire=wire)


def parts(body: bytes) -> list[bytes]:
    """The messages of a reply's body."""
    found = []
    while body:
        size = int.from_bytes(body[1:5], "big")
        found.append(body[5 : 5 + size])
        body = body[5 + size :]
    return found
