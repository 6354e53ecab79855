"""The wire, fed by hand: frames in any pieces, garbage, bombs, deadlines, clients that leave."""

import asyncio
import gzip
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.codecs import messages
from foretell.errors import InvalidInput, NotReady
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.grpc.errors import Code, failure
from foretell.transports.grpc.rpc import Begun, Rpc, next_of
from foretell.transports.grpc.wire import Methods, Streaming, Unary, Wire

NOTE = messages.message("inference.ModelReadyRequest")  # any message with a text
MOST = 1000


def note(text: str) -> bytes:
    written: bytes = NOTE(name=text).SerializeToString()
    return written


def frame(payload: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(payload)) + payload


async def echo(request: Any, rpc: Rpc) -> bytes:
    if request.name == "wrong":
        raise InvalidInput("'name' is wrong: 100 % ä", field="name", row=3)
    if request.name == "later":
        raise NotReady("come back", retry_after_s=1.5)
    if request.name == "broken":
        raise ZeroDivisionError("a secret")
    if request.name == "slow":
        await rpc.unless_gone(asyncio.sleep(60))
    rpc.trailing.append((b"answered-bin", b"AAE"))
    return note(request.name + request.version)


async def echo_all(requests: AsyncIterator[Any], rpc: Rpc) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.name == "slow":
            await asyncio.sleep(60)
        yield await echo(request, rpc)


async def echo_twice(requests: AsyncIterator[Any], _: Rpc) -> AsyncIterator[bytes]:
    async for request in requests:
        yield note(request.name * 2)


METHODS: Methods = {
    "/n.S/One": Unary(NOTE, echo),
    "/n.S/All": Streaming(NOTE, echo_all),
    "/n.S/Twice": Streaming(NOTE, echo_twice),
}
WIRE = Wire(METHODS, Bodies(10 * MOST), max_message_bytes=MOST, max_overhead_bytes=MOST)


class Told:
    """What a client would see: HTTP status, headers, messages, trailers."""

    def __init__(self, sent: list[Any]) -> None:
        start = sent[0]
        self.status = start["status"]
        self.headers = dict(start["headers"])
        body = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
        self.body = body
        self.flags: list[int] = []
        self.notes: list[str] = []
        while self.status == 200 and body:
            flag, size = struct.unpack_from(">BI", body)
            payload = body[5 : 5 + size]
            self.flags.append(flag)
            self.notes.append(NOTE.FromString(gzip.decompress(payload) if flag else payload).name)
            body = body[5 + size :]
        ends = [m for m in sent if m["type"] == "http.response.trailers"]
        assert len(ends) == bool(start.get("trailers"))
        self.trailers = dict(ends[0]["headers"]) if ends else self.headers
        self.code = int(self.trailers.get(b"grpc-status", b"-1"))
        self.message = self.trailers.get(b"grpc-message", b"").decode()


async def call(
    path: str,
    *pieces: bytes,
    wire: Wire | None = None,
    leaves: bool = False,
    hangs: bool = False,
    **headers: Any,
) -> list[Any]:
    """Send the pieces as body; then the end, or nothing for ever, or the client's leaving."""
    told = {"content-type": "application/grpc", **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "http_version": "2",
        "path": path,
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in told.items()],
    }
    events: asyncio.Queue[Any] = asyncio.Queue()
    for place, piece in enumerate(pieces, 1):
        more = place < len(pieces) or leaves or hangs
        events.put_nowait({"type": "http.request", "body": piece, "more_body": more})
    if leaves:
        events.put_nowait({"type": "http.disconnect"})
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await (wire or WIRE)(scope, events.get, send)
    return sent


def told(path: str, *pieces: bytes, **options: Any) -> Told:
    return Told(asyncio.run(call(path, *pieces, **options)))


def test_one_message_is_answered_by_one() -> None:
    answer = told("/n.S/One", frame(note("hello")), x_request_id="mine")
    assert (answer.status, answer.code, answer.notes) == (200, 0, ["hello"])
    assert answer.headers[b"content-type"] == b"application/grpc"
    assert answer.trailers[b"x-request-id"] == b"mine"
    assert answer.trailers[b"answered-bin"] == b"AAE"


@settings(deadline=None)  # each example has an event loop of its own
@given(st.lists(st.text(max_size=20), max_size=5), st.data())
def test_frames_may_come_in_any_pieces(texts: list[str], data: Any) -> None:
    body = b"".join(frame(note(text)) for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    answer = told("/n.S/All", *pieces)
    plain = [text for text in texts if text not in ("wrong", "later", "broken", "slow")]
    assert (answer.code, answer.notes) == (0, texts) if plain == texts else True
    if len(texts) == 1 and plain == texts:
        assert told("/n.S/One", *pieces).notes == texts


@pytest.mark.parametrize(
    ("pieces", "code", "words"),
    [
        ([b""], Code.INVALID_ARGUMENT, "exactly one message"),
        ([frame(b"") * 2], Code.INVALID_ARGUMENT, "exactly one message"),
        ([frame(note("x"))[:-1]], Code.INTERNAL, "ended within a message"),
        ([b"\0\0"], Code.INTERNAL, "ended within a message"),
        ([frame(note("x")) + b"\0"], Code.INTERNAL, "ended within a message"),
        ([frame(b"\xff\xff\xff")], Code.INVALID_ARGUMENT, "is not a inference.ModelReady"),
        ([frame(note("x"), 1)], Code.INTERNAL, "no encoding was named"),
        ([frame(note("x"), 7)], Code.INTERNAL, "no encoding was named"),
        ([frame(b"x" * (MOST + 1))], Code.RESOURCE_EXHAUSTED, "the limit is 1000"),
        ([b"\0\xff\xff\xff\xff", b"x"], Code.RESOURCE_EXHAUSTED, "the limit is 1000"),
    ],
)
def test_what_is_no_message_is_refused(pieces: list[bytes], code: Code, words: str) -> None:
    answer = told("/n.S/One", *pieces)
    assert (answer.status, answer.code, answer.notes) == (200, code, [])
    assert words in answer.message


def test_gzip_is_read_and_answered_in_kind() -> None:
    text = "long " * 180
    packed = frame(gzip.compress(note(text)), 1)
    answer = told("/n.S/One", packed, grpc_encoding="gzip", grpc_accept_encoding="gzip")
    assert (answer.code, answer.notes, answer.flags) == (0, [text], [0])  # fits into a packet
    assert answer.headers[b"grpc-encoding"] == b"gzip"
    plain = told("/n.S/One", packed, grpc_encoding="gzip")
    assert b"grpc-encoding" not in plain.headers


def test_a_stream_is_compressed_as_its_headers_say_whatever_its_messages_are() -> None:
    """A client leaves its short messages as they are, and packs those that get shorter."""
    short, long = frame(note("a")), frame(gzip.compress(note("long " * 180)), 1)
    encodings = {"grpc_encoding": "gzip", "grpc_accept_encoding": "identity,gzip"}
    answer = told("/n.S/Twice", short + long, **encodings)
    assert answer.headers[b"grpc-encoding"] == b"gzip"
    assert answer.flags == [0, 1]
    plain = told("/n.S/Twice", short + long, grpc_encoding="gzip")
    assert (plain.flags, b"grpc-encoding" in plain.headers) == ([0, 0], False)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (gzip.compress(b"0" * 10_000_000, mtime=0), "the limit is 1000"),
        (gzip.compress(note("x"), mtime=0)[:-9], "cut off"),
        (b"no gzip", "not readable as gzip"),
        (gzip.compress(note("x"), mtime=0) * 2, "goes on after its first gzip part"),
    ],
)
def test_a_bomb_and_broken_gzip_are_refused(payload: bytes, words: str) -> None:
    answer = told("/n.S/One", frame(payload, 1), grpc_encoding="gzip")
    assert words in answer.message
    assert answer.code in (Code.RESOURCE_EXHAUSTED, Code.INTERNAL)


def test_another_encoding_names_those_that_are_read() -> None:
    answer = told("/n.S/One", frame(note("x"), 1), grpc_encoding="snappy")
    assert answer.code == Code.UNIMPLEMENTED
    assert answer.headers[b"grpc-accept-encoding"] == b"identity,gzip"


@pytest.mark.parametrize("path", ["/n.S/Two", "/n.T/One", "/"])
def test_an_unknown_method_is_unimplemented(path: str) -> None:
    assert told(path, frame(b"")).code == Code.UNIMPLEMENTED


def test_a_failure_carries_message_details_and_when_to_come_back() -> None:
    answer = told("/n.S/One", frame(note("wrong")))
    assert answer.code == Code.INVALID_ARGUMENT
    assert answer.trailers[b"grpc-message"] == b"'name' is wrong: 100 %25 %C3%A4"
    assert b"trailers" not in answer.headers
    assert told("/n.S/One", frame(note("later"))).trailers[b"retry-after"] == b"2"


@pytest.mark.parametrize("letter", ["a", "ä", "字", "\ud800"])
def test_what_is_told_of_a_failure_fits_into_the_trailers_clients_take(letter: str) -> None:
    error = InvalidInput(f"no {letter * 9000}", field=letter * 9000, row=3)
    trailers = failure(error, "r" * 128)
    assert sum(len(name) + len(value) + 32 for name, value in trailers) < 8192
    assert len(dict(trailers)[b"grpc-message"]) > 900
    short = dict(failure(InvalidInput("no " + "a" * 900), "r"))
    assert short[b"grpc-message"] == b"no " + b"a" * 900


def test_a_bug_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    answer = told("/n.S/One", frame(note("broken")), x_request_id="r1")
    assert answer.code == Code.INTERNAL
    assert "secret" not in answer.message
    assert "r1" in answer.message
    assert "a secret" in caplog.text


def test_a_stream_that_fails_half_way_ends_with_the_status() -> None:
    answer = told("/n.S/All", frame(note("a")) + frame(note("wrong")) + frame(note("b")))
    assert (answer.code, answer.notes) == (Code.INVALID_ARGUMENT, ["a"])


def test_a_stream_is_answered_before_it_ends_and_ends_at_its_deadline() -> None:
    before = time.monotonic()
    answer = told("/n.S/All", frame(note("a")), hangs=True, grpc_timeout="80m")
    assert (answer.code, answer.notes) == (Code.DEADLINE_EXCEEDED, ["a"])
    assert 0.05 < time.monotonic() - before < 20


def test_a_deadline_is_kept_while_the_message_is_still_to_come() -> None:
    hanging = call("/n.S/One", frame(note("a"))[:-1], hangs=True, grpc_timeout="80m")
    answer = Told(asyncio.run(asyncio.wait_for(hanging, 20)))
    assert (answer.code, answer.notes) == (Code.DEADLINE_EXCEEDED, [])


async def come_late(*, cut: bool) -> tuple[list[Any], list[str]]:
    """A call with a deadline whose events come one by one, from a `receive` with two waits."""
    events = [frame(note("a"))[:7], frame(note("a"))[7:], b""] if cut else [frame(note("a")), b""]
    sent, ended = list[Any](), list[str]()

    async def receive() -> Any:
        try:
            await asyncio.sleep(0)
            if not events:
                await asyncio.Event().wait()
            await asyncio.sleep(0.001)
        finally:
            ended.append("receive")
        return {"type": "http.request", "body": events.pop(0), "more_body": bool(events)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/grpc"), (b"grpc-timeout", b"5S")]
    scope = {"type": "http", "method": "POST", "http_version": "2", "path": "/n.S/One"}
    await WIRE({**scope, "headers": headers}, receive, send)
    return sent, ended


@pytest.mark.parametrize("cut", [False, True])
def test_with_a_deadline_what_is_not_there_yet_is_waited_for(cut: bool) -> None:
    sent, ended = asyncio.run(come_late(cut=cut))
    assert (Told(sent).code, Told(sent).notes) == (Code.OK, ["a"])
    assert len(ended) == 2 + cut  # each was waited for to its end


def test_who_waits_for_an_event_hears_of_its_cancellation() -> None:
    heard = []

    async def receive() -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # it may take its time
            heard.append("cancelled")
            raise

    async def run() -> None:
        async def wait() -> None:
            event = next_of(receive)
            assert isinstance(event, Begun)
            await event

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert heard == ["cancelled"]


class Bare:
    """What a server's own future may be: it can be iterated, and no more."""

    def __init__(self) -> None:
        self.steps = iter(asyncio.get_running_loop().create_future().__await__())

    def __await__(self) -> Any:
        return iter(self.steps.__next__, None)


def test_a_future_that_takes_no_errors_is_left_to_them() -> None:
    async def run() -> None:
        event = next_of(Bare)
        async with asyncio.timeout(0.01):
            await event  # type: ignore[misc]

    with pytest.raises(TimeoutError):
        asyncio.run(run())


@pytest.mark.parametrize("timeout", ["", "5", "5x", "123456789S", "-1S", "1.5S", "S"])
def test_a_timeout_that_is_none_is_refused(timeout: str) -> None:
    assert told("/n.S/One", frame(b""), grpc_timeout=timeout).code == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("path", ["/n.S/One", "/n.S/All"])
def test_whoever_leaves_gets_no_reply_and_nothing_goes_on(path: str) -> None:
    assert asyncio.run(call(path, frame(note("x"))[:-1], leaves=True)) == []


def test_work_for_whoever_leaves_is_cancelled() -> None:
    before = time.monotonic()
    sent = asyncio.run(call("/n.S/One", frame(note("slow")), leaves=True))
    assert sent == []
    assert time.monotonic() - before < 20


@pytest.mark.parametrize("headers", [{"content-type": "application/json"}, {"content-type": ""}])
def test_what_is_no_grpc_gets_an_http_answer(headers: dict[str, Any]) -> None:
    answer = Told(asyncio.run(call("/n.S/One", b"{}", **headers)))
    assert answer.status == 415
    assert b"native gRPC" in answer.body


@pytest.mark.parametrize(
    ("kind", "version", "owned"),
    [
        ("application/grpc", "2", True),
        ("application/grpc+proto", "2", True),
        ("Application/gRPC", "2", True),
        ("application/grpc-web", "2", False),
        ("application/json", "2", False),
        ("application/grpc", "1.1", False),
    ],
)
def test_a_call_is_known_by_its_content_type(kind: str, version: str, owned: bool) -> None:
    scope = {
        "type": "http",
        "http_version": version,
        "path": "/x.Y/Z",
        "headers": [(b"content-type", kind.encode())],
    }
    assert WIRE.owns(scope) is owned
