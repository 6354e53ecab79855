"""Servers of the tests' own, on a loopback socket: they answer what a test says, and count."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from foretell.core.field import Datatype, Field
from foretell.core.signature import Signature

SIGNATURE = Signature((Field("x", Datatype.FP64),), (Field("prediction", Datatype.FP64),))
DESCRIPTION = {
    "version": "1",
    "versions": [{"version": "1", "signature": SIGNATURE.describe()}],
}


class Answer(NamedTuple):
    """A reply; None as its status hangs up without one."""

    status: int | None = 200
    body: object = {"prediction": 2.0, "model_version": "1"}
    headers: tuple[tuple[str, str], ...] = ()


GOOD = Answer()
HANG_UP = Answer(None)


def failure(status: int, code: str, retry_after: str | None = None) -> Answer:
    headers = () if retry_after is None else (("retry-after", retry_after),)
    return Answer(status, {"error": "words", "code": code, "request_id": "r"}, headers)


class Stub:
    """A running stub: `requests` has the headers of every prediction that was asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[dict[str, str]] = []
        self.described = 0


@contextmanager
def stub(answer: Callable[[int], Answer]) -> Iterator[Stub]:
    """A server of one model, `double`; `answer` gets the number of the request, from 0."""
    lock = threading.Lock()

    class Exchange(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            with lock:
                told.described += 1
            self.reply(Answer(200, DESCRIPTION))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            with lock:
                number = len(told.requests)
                told.requests.append({k.lower(): v for k, v in self.headers.items()})
            self.reply(answer(number))

        def reply(self, made: Answer) -> None:
            if made.status is None:
                self.close_connection = True
                return
            body = json.dumps(made.body).encode()
            self.send_response(made.status)
            for name, value in (*made.headers, ("content-length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        request_queue_size = 512
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Exchange)
    told = Stub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
