"""Servers of the tests' own, on a loopback socket: they answer what a test says, and count."""

import json
import ssl
import struct
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import grpc

from foretell.codecs import messages
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import ForetellError
from foretell.transports.grpc.errors import failure as failure_over_grpc

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
def stub(answer: Callable[[int], Answer], *, tls: ssl.SSLContext | None = None) -> Iterator[Stub]:
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
    if tls is not None:
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    scheme = "http" if tls is None else "https"
    told = Stub(f"{scheme}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Refusal(NamedTuple):
    """A status over gRPC, with the trailers of the server's own table."""

    error: ForetellError


@contextmanager
def grpc_stub(
    answer: Callable[[int], Refusal | None],
    *,
    credentials: grpc.ServerCredentials | None = None,
    compression: grpc.Compression | None = None,
) -> Iterator[Stub]:
    """The same over gRPC, of grpcio's own server; None answers the call, in some 2 KB."""
    metadata = messages.message("inference.ModelMetadataResponse")(name="double", versions=["1"])
    metadata.inputs.add(name="x", datatype="FP64", shape=[-1])
    metadata.outputs.add(name="prediction", datatype="FP64", shape=[-1])
    result = messages.message("inference.ModelInferResponse")(model_name="double")
    result.model_version = "1"
    result.parameters["filling"].string_param = " " * 2000
    result.outputs.add(name="prediction", datatype="FP64", shape=[1])
    result.raw_output_contents.append(struct.pack("<d", 2.0))

    def reply(request: bytes, context: grpc.ServicerContext) -> bytes:
        number = len(told.requests)
        sent = {name: str(value) for name, value in context.invocation_metadata()}
        told.requests.append({**sent, "time_remaining": str(context.time_remaining())})
        refusal = answer(number)
        if refusal is not None:
            status, words, *rest = failure_over_grpc(refusal.error, "r")
            context.set_trailing_metadata(
                tuple(
                    (name.decode(), b64decode(value) if name.endswith(b"-bin") else value.decode())
                    for name, value in rest
                )
            )
            code = next(c for c in grpc.StatusCode if c.value[0] == int(status[1]))
            context.abort(code, words[1].decode())
        return bytes(result.SerializeToString())

    def describe(request: bytes, context: grpc.ServicerContext) -> bytes:
        told.described += 1
        return bytes(metadata.SerializeToString())

    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "ModelMetadata": grpc.unary_unary_rpc_method_handler(describe),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(reply),
    }
    server = grpc.server(ThreadPoolExecutor(8), compression=compression)
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    if credentials is None:
        told = Stub(f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
        told = Stub(f"grpcs://127.0.0.1:{port}")
    server.start()
    try:
        yield told
    finally:
        server.stop(None).wait()
