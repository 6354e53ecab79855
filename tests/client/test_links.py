"""The links, against servers that misbehave on real sockets: what is sent again, what is said."""

import asyncio
import gzip
import json
import multiprocessing
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import foretell
from foretell.client.calling import Attempt, Kind, Request
from foretell.client.http_links import AsyncHttpLink, LinkOptions
from foretell.client.predictions import Predictions
from foretell.client.retrying import Retries
from foretell.errors import (
    BadSettings,
    DeadlineExceeded,
    Forbidden,
    ForetellError,
    InvalidInput,
    ModelFailed,
    NoAnswer,
    NotReady,
    Overloaded,
    TooLarge,
)
from tests.client.stubs import DESCRIPTION, GOOD, HANG_UP, Answer, Refusal, failure, grpc_stub, stub

pytestmark = pytest.mark.slow

ROW = {"x": 1.0}
PATIENCE_S = 20.0
"""Longer than a busy machine takes, shorter than what would be wrong."""
Ask = Callable[..., Predictions]


def ask_sync(url: Any, *, timeout_s: float | None = None, **options: Any) -> Predictions:
    with foretell.Client(url, **options) as client:
        return client.predict("double", ROW, timeout_s=timeout_s)


def ask_async(url: Any, *, timeout_s: float | None = None, **options: Any) -> Predictions:
    async def main() -> Predictions:
        async with foretell.AsyncClient(url, **options) as client:
            return await client.predict("double", ROW, timeout_s=timeout_s)

    return asyncio.run(main())


@pytest.fixture(params=[ask_sync, ask_async], ids=["threads", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    asked: Ask = request.param
    return asked


@contextmanager
def listening(answer: bytes | None = None, more: bytes = b"") -> Iterator[str]:
    """A socket that takes connections, says `answer` (or nothing), and keeps them open.

    It says `more` again and again, with a pause, until the client has left.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []
        ended = threading.Event()

        def hold() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                held.append(link)
                if answer is not None:
                    link.recv(65536)
                    with suppress(OSError):
                        link.sendall(answer)
                        while more and not ended.wait(0.02):
                            link.sendall(more)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for link in held:
                link.close()


def nobody() -> str:
    """A URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "first",
    [failure(503, "not_ready", "0"), failure(429, "overloaded", "0"), HANG_UP],
    ids=["503", "429", "hangs up"],
)
def test_what_is_safe_is_sent_again(ask: Ask, first: Answer) -> None:
    with stub(lambda number: first if number == 0 else GOOD) as server:
        assert ask(server.url).predictions.tolist() == [2.0]
        assert len(server.requests) == 2
        assert server.described == 1


@pytest.mark.parametrize(
    "error", [NotReady("words", retry_after_s=0.2), Overloaded("words", retry_after_s=0.2)]
)
def test_over_grpc_the_same_is_sent_again_as_late_as_it_asks_for(
    ask: Ask, error: ForetellError
) -> None:
    with grpc_stub(lambda number: Refusal(error) if number == 0 else None) as server:
        began = time.monotonic()
        answer = ask(server.url, timeout_s=9.0, api_key="secret")
        assert answer.predictions.tolist() == [2.0]
        assert time.monotonic() - began >= 0.2
        assert len(server.requests) == 2
        assert {told["authorization"] for told in server.requests} == {"Bearer secret"}
        assert all(float(told["time_remaining"]) < 10 for told in server.requests)


def test_over_grpc_the_rest_is_not(ask: Ask) -> None:
    error = InvalidInput("words", field="x", row=2)
    with grpc_stub(lambda _: Refusal(error)) as server:
        with pytest.raises(InvalidInput, match="words") as caught:
            ask(server.url)
        assert (caught.value.field, caught.value.row) == ("x", 2)
        assert len(server.requests) == 1


def own_certificates(folder: Path) -> tuple[trustme.CA, Path, tuple[Path, Path]]:
    """An authority, its certificate, and a client's certificate and key."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca")
    made = authority.issue_cert("client@example.org")
    made.cert_chain_pems[0].write_to_path(folder / "cert")
    made.private_key_pem.write_to_path(folder / "key")
    made.private_key_and_cert_chain_pem.write_to_path(folder / "both")
    return authority, folder / "ca", (folder / "cert", folder / "key")


def test_a_client_shows_its_certificate(ask: Ask, tmp_path: Path) -> None:
    authority, ca, cert = own_certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with stub(lambda _: GOOD, tls=tls) as server:
        assert ask(server.url, verify=ca, cert=cert).version == "1"
        assert ask(server.url, verify=ca, cert=tmp_path / "both").version == "1"
        with pytest.raises(NoAnswer):  # which may see the connection end before it sees why
            ask(server.url, verify=ca, retries=Retries(first_wait_s=0.001))


def test_a_client_shows_its_certificate_over_grpc(ask: Ask, tmp_path: Path) -> None:
    authority, ca, cert = own_certificates(tmp_path)
    made = authority.issue_cert("127.0.0.1")
    pair = (made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials([pair], ca.read_bytes(), require_client_auth=True)
    with grpc_stub(lambda _: None, credentials=credentials) as server:
        assert ask(server.url, verify=ca, cert=cert).version == "1"
        assert ask(server.url, verify=ca, cert=tmp_path / "both").version == "1"
        with pytest.raises(NoAnswer):
            ask(server.url, verify=ca, retries=Retries(first_wait_s=0.001))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failure(500, "model_failed"), ModelFailed),
        (failure(504, "deadline_exceeded"), DeadlineExceeded),
        (failure(403, "forbidden"), Forbidden),
        (Answer(200, [1]), NoAnswer),
        (Answer(502, "bad gateway"), NoAnswer),
        (Answer(308, "", (("location", "http://elsewhere/"),)), NoAnswer),
    ],
)
def test_what_is_not_is_not(ask: Ask, answer: Answer, kind: type[Exception]) -> None:
    with stub(lambda _: answer) as server:
        with pytest.raises(kind):
            ask(server.url)
        assert len(server.requests) == 1


def test_retry_after_is_honoured(ask: Ask) -> None:
    with stub(lambda number: failure(429, "overloaded", "1") if number == 0 else GOOD) as server:
        began = time.monotonic()
        ask(server.url)
        assert time.monotonic() - began >= 1.0


def test_a_retry_that_would_come_too_late_is_not_waited_for(ask: Ask) -> None:
    with stub(lambda _: failure(429, "overloaded", "5")) as server:
        began = time.monotonic()
        with pytest.raises(Overloaded) as caught:
            ask(server.url, timeout_s=2.0)
        assert time.monotonic() - began < 2.0
        assert caught.value.retry_after_s == 5.0
        assert len(server.requests) == 1


def test_retries_end_with_what_the_server_said(ask: Ask) -> None:
    with stub(lambda _: failure(503, "not_ready", "0")) as server:
        with pytest.raises(NotReady, match="words"):
            ask(server.url, retries=Retries(attempts=3, first_wait_s=0.001))
        assert len(server.requests) == 3


def test_a_server_that_says_nothing_is_waited_for_until_the_deadline(ask: Ask) -> None:
    with listening() as url:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="before the deadline"):
            ask(url, timeout_s=0.3)
        assert 0.3 <= time.monotonic() - began < PATIENCE_S


def test_an_answer_that_trickles_does_not_outlive_the_deadline(ask: Ask) -> None:
    """Each byte comes soon enough after the one before, and there is no end to them."""
    with listening(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{", b" ") as url:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(url, timeout_s=0.3)
        assert time.monotonic() - began < PATIENCE_S


ENDLESS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_an_answer_without_an_end_is_not_kept(ask: Ask) -> None:
    piece = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    with (
        listening(ENDLESS, piece) as url,
        pytest.raises(TooLarge, match=f"the answer from {url} is larger than 1000000 bytes"),
    ):
        ask(url, max_reply_bytes=1_000_000)


def test_an_answer_that_is_packed_is_measured_unpacked(ask: Ask) -> None:
    body = gzip.compress(b"{" + b" " * 2_000_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    with listening(head + body) as url, pytest.raises(TooLarge, match="max_reply_bytes"):
        ask(url, max_reply_bytes=1_000_000)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_over_grpc_an_answer_that_is_too_large_is_not_kept(
    ask: Ask, compression: grpc.Compression
) -> None:
    with grpc_stub(lambda _: None, compression=compression) as server:
        assert ask(server.url).version == "1"
        asked = len(server.requests)
        words = f"the answer from {server.url} is larger than 1000 bytes"
        with pytest.raises(TooLarge, match=words):
            ask(server.url, max_reply_bytes=1000)
        assert len(server.requests) == asked + 1  # it is not sent again


def test_an_answer_of_just_the_size_is_taken(ask: Ask) -> None:
    most = len(json.dumps(DESCRIPTION))
    with stub(lambda _: GOOD) as server:
        assert ask(server.url, max_reply_bytes=most).version == "1"
        with pytest.raises(TooLarge):
            ask(server.url, max_reply_bytes=most - 1)


def test_what_speaks_no_http_is_told_from_a_server(ask: Ask) -> None:
    with (
        listening(b"220 mail ready\r\n\r\n") as url,
        pytest.raises(NoAnswer, match="the connection"),
    ):
        ask(url, retries=Retries(first_wait_s=0.001))


def test_nobody_there_is_told_with_the_address(ask: Ask) -> None:
    url = nobody()
    with pytest.raises(NoAnswer, match=f"no connection to {url}.*start a server"):
        ask(url, retries=Retries(first_wait_s=0.001))
    grpc = url.replace("http", "grpc")
    with pytest.raises(NoAnswer, match=f"no connection to {grpc}.*start a server"):
        ask(grpc, retries=Retries(first_wait_s=0.001))


def test_the_deadline_and_the_key_are_told_to_the_server(ask: Ask) -> None:
    with stub(lambda number: failure(503, "not_ready", "1") if number == 0 else GOOD) as server:
        ask(server.url, timeout_s=9.0, api_key="secret")
        first, second = (int(told["x-request-timeout-ms"]) for told in server.requests)
        assert {told["authorization"] for told in server.requests} == {"Bearer secret"}
    assert 8000 < first <= 9000
    assert second <= first - 1000


def test_a_call_without_a_deadline_tells_of_none(ask: Ask) -> None:
    with stub(lambda _: GOOD) as server:
        ask(server.url, timeout_s=float("inf"))
        ask(server.url)
        assert "x-request-timeout-ms" not in server.requests[0]
        assert "x-request-timeout-ms" in server.requests[1]


def test_a_call_that_is_cancelled_frees_its_server() -> None:
    async def main() -> None:
        arrived = asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            arrived.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, foretell.AsyncClient(f"http://127.0.0.1:{port}") as client:
            (upstream,) = client._current().asking.calls.balancer.upstreams
            call = asyncio.create_task(client.predict("double", ROW))
            await arrived.wait()
            assert upstream.outstanding == 1
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert upstream.outstanding == 0

    asyncio.run(main())


def test_one_server_failing_under_another_leaves_no_call_lost(ask: Ask) -> None:
    with stub(lambda _: GOOD) as server:
        assert ask([nobody(), server.url], retries=Retries(attempts=2)).version == "1"


def test_a_client_on_a_second_event_loop_says_so() -> None:
    with stub(lambda _: GOOD) as server:
        client = foretell.AsyncClient(server.url)
        with asyncio.Runner() as runner, asyncio.Runner() as other:
            runner.run(client.predict("double", ROW))
            with pytest.raises(BadSettings, match="another event loop"):
                other.run(client.predict("double", ROW))
            runner.run(client.close())


def _in_the_child(client: foretell.Client, pipe: Any) -> None:
    try:
        pipe.send(client.predict("double", ROW).predictions.tolist())
    except BadSettings as error:
        pipe.send(error.message)


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own() -> None:
    fork = multiprocessing.get_context("fork")
    with stub(lambda _: GOOD) as server, foretell.Client(server.url) as client:
        client.predict("double", ROW)
        ours, theirs = fork.Pipe()
        child = fork.Process(target=_in_the_child, args=(client, theirs))
        child.start()
        assert ours.poll(30)
        assert ours.recv() == [2.0]
        child.join()
        assert client.predict("double", ROW).version == "1"


def test_a_grpc_client_says_that_it_does_not_survive_a_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with foretell.Client(nobody().replace("http", "grpc"), timeout_s=1.0) as client:
        with pytest.raises(NoAnswer):
            client.signature("double")
        pid = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)  # grpcio would really not survive it
        with pytest.raises(BadSettings, match="does not survive a fork"):
            client.signature("double")
        monkeypatch.undo()


def test_a_closed_client_says_so() -> None:
    client = foretell.Client(nobody())
    client.close()
    with pytest.raises(BadSettings, match="is closed"):
        client.predict("double", ROW)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"verify": "ca.pem"}, "verify and cert are for TLS"),
        ({"cert": "me.pem"}, "verify and cert are for TLS"),
        ({"balance": "hash"}, "give key="),
        ({"api_key": "secret\n"}, "the api_key is empty or has what no header can hold"),
        ({"api_key": ""}, "the api_key is empty"),
        ({"max_reply_bytes": 0}, "max_reply_bytes is 0, but must be between 1 and"),
        ({"max_reply_bytes": 2**31}, "max_reply_bytes is 2147483648, but must be"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], words: str) -> None:
    with stub(lambda _: GOOD) as server, pytest.raises(BadSettings, match=words):
        ask_sync(server.url, **options)


def test_calls_that_are_late_keep_no_connection() -> None:
    async def main() -> None:
        answering = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                await answering.wait()
                body = json.dumps(DESCRIPTION).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
                writer.write(body)
                await reader.read()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        link = AsyncHttpLink(LinkOptions(), [url := f"http://127.0.0.1:{port}"])
        request = Request("/models/double", method="GET")
        async with server:
            for _ in range(5):
                late = [link.exchange(Attempt(url, request, 0.1)) for _ in range(300)]
                assert {got.kind for got in await asyncio.gather(*late)} <= {
                    Kind.SILENT,
                    Kind.REFUSED,
                }
            assert link._clients[url]._transport._pool.connections == []
            answering.set()
            assert (await link.exchange(Attempt(url, request, 30.0))).kind is Kind.ANSWERED
            await link.close()

    asyncio.run(main())
