"""A payload is what a load test sends in one protocol: requests made once, and sent many times.

Rules:

1. All protocols send the same rows, in the same order.
2. `grpc` is `prediction.PredictionService`, gRPC's small messages, where the model can be asked
   so; else, and with `grpc-infer` always, it is the Open Inference Protocol's `ModelInfer`.
3. `reader` reads an answer in full: the number of rows in it, or ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

import numpy as np

from foretell.client.calling import Request
from foretell.codecs import messages
from foretell.codecs.asking import messages as oip
from foretell.codecs.asking import tensor_bodies
from foretell.codecs.asking.json_bodies import JsonAsking
from foretell.codecs.features import Features
from foretell.codecs.tables import arrow_tables
from foretell.core.batch import Batch
from foretell.core.signature import Signature
from foretell.errors import InvalidInput

_HEADER_LENGTH = "inference-header-content-length"
_JSON = "application/json"
_ARROW = "application/vnd.apache.arrow.stream"
_MOST_BYTES = 64 * 2**20
MOST_REQUESTS = 1000
"""Different ones; so many are made, and sent in turn."""

Reader = Callable[[bytes, bytes], int]
"""The rows in an answer, of its head (HTTP only, in lower case) and body. Raises ValueError."""


class Protocol(StrEnum):
    """How rows travel."""

    REST = "rest"
    GRPC = "grpc"
    GRPC_INFER = "grpc-infer"
    BINARY = "binary"
    ARROW = "arrow"

    @property
    def is_grpc(self) -> bool:
        return self in (Protocol.GRPC, Protocol.GRPC_INFER)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked, and with which rows: a batch for each request."""

    model: str
    version: str | None
    signature: Signature
    batches: Sequence[Batch]

    @property
    def path(self) -> str:
        """Where the model's routes begin."""
        path = f"/models/{quote(self.model, safe='')}"
        return path if self.version is None else f"{path}/versions/{quote(self.version, safe='')}"


@dataclass(frozen=True, slots=True)
class Payload:
    """The requests of one protocol; `begins` is how every answer's body does."""

    protocol: Protocol
    requests: tuple[Request, ...]
    rows: int
    begins: bytes
    reader: Reader

    @property
    def what(self) -> str:
        """The route or method that is called."""
        return self.requests[0].path

    @property
    def request_bytes(self) -> float:
        """A request's body, on average."""
        return sum(len(request.body) for request in self.requests) / len(self.requests)


def batches_of(batch: Batch, rows: int) -> list[Batch]:
    """A batch of `rows` for each request: one after another, beginning anew at the end."""
    count = len(batch)
    wanted = min(MOST_REQUESTS, math.ceil(count / rows))
    whole = list(batch.rows)
    places = [(number * rows + at) % count for number in range(wanted) for at in range(rows)]
    return [
        Batch.from_accepted(batch.fields, [whole[place] for place in places[start : start + rows]])
        for start in range(0, len(places), rows)
    ]


def payload_of(protocol: Protocol, asked: Asked) -> Payload:
    """What `protocol` sends. Raises InvalidInput when it can't, MissingExtra."""
    rows = len(asked.batches[0])
    requests, size, write, reader, begins = [], 0, *_written(protocol, asked, rows)
    for batch in asked.batches:
        requests.append(write(batch))
        size += len(requests[-1].body)
        if size > _MOST_BYTES:
            break
    return Payload(protocol, tuple(requests), rows, begins, reader)


def _written(
    protocol: Protocol, asked: Asked, rows: int
) -> tuple[Callable[[Batch], Request], Reader, bytes]:
    """Who writes a request and who reads its answer, and how that begins."""
    match protocol:
        case Protocol.REST:
            return *_json(asked, rows), b"{"
        case Protocol.BINARY:
            return *_binary(asked), b"{"
        case Protocol.ARROW:
            return *_arrow(asked), b"\xff\xff\xff\xff"
        case Protocol.GRPC if _has_small_messages(asked):
            return *_small(asked, rows), b"\0"
        case _:
            return *_infer(asked), b"\0"


def _json(asked: Asked, rows: int) -> tuple[Callable[[Batch], Request], Reader]:
    codec = JsonAsking(asked.signature)
    told = {"content-type": _JSON, "accept": _JSON}

    def write(batch: Batch) -> Request:
        if rows == 1:
            return Request(f"{asked.path}/predict", codec.write_row(batch), headers=told)
        return Request(f"{asked.path}/batch_predict", codec.write_rows(batch), headers=told)

    def read(_head: bytes, body: bytes) -> int:
        answer, _ = (codec.read_row if rows == 1 else codec.read_rows)(body)
        return len(answer)

    return write, read


def _binary(asked: Asked) -> tuple[Callable[[Batch], Request], Reader]:
    if not tensor_bodies.suits(asked.signature):
        raise InvalidInput(
            "what this model answers may be missing, for which raw tensors have no sign; "
            "leave 'binary' out"
        )

    def write(batch: Batch) -> Request:
        body, length = tensor_bodies.write(batch)
        told = {"content-type": "application/octet-stream", _HEADER_LENGTH: str(length)}
        return Request(f"/v2{asked.path}/infer", body, headers=told)

    def read(head: bytes, body: bytes) -> int:
        _, found, rest = head.partition(_HEADER_LENGTH.encode() + b":")
        length = int(rest.partition(b"\r")[0]) if found else None
        return len(next(iter(tensor_bodies.read(body, length).outputs.values())))

    return write, read


def _arrow(asked: Asked) -> tuple[Callable[[Batch], Request], Reader]:
    pa = arrow_tables.pyarrow()
    told = {"content-type": _ARROW, "accept": _ARROW}

    def write(batch: Batch) -> Request:
        body = arrow_tables.write_stream(batch)
        return Request(f"{asked.path}/batch_predict", body, headers=told)

    def read(_head: bytes, body: bytes) -> int:
        try:
            rows: int = pa.ipc.open_stream(body).read_all().num_rows
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error
        return rows

    return write, read


def _has_small_messages(asked: Asked) -> bool:
    """Whether the rows survive as 32-bit numbers."""
    features = Features(asked.signature)
    if features.refusal is not None:
        return False
    try:
        for batch in asked.batches:
            for row in batch.rows:
                features.row(_floats(row))
    except InvalidInput:
        return False
    return True


def _floats(row: Sequence[object]) -> list[float]:
    told: list[float] = np.hstack(row).astype(np.float32).tolist()  # type: ignore[arg-type]  # one array is a sequence, too
    return told


def _small(asked: Asked, rows: int) -> tuple[Callable[[Batch], Request], Reader]:
    one, many = (messages.message(f"prediction.{name}PredictRequest") for name in ("", "Batch"))
    method = "Predict" if rows == 1 else "BatchPredict"
    answer = messages.message(f"prediction.{method}Response")
    told = {"model-name": asked.model}
    if asked.version is not None:
        told["model-version"] = asked.version

    def write(batch: Batch) -> Request:
        instances = [one(features=_floats(row)) for row in batch.rows]
        message = instances[0] if rows == 1 else many(instances=instances)
        path = f"/prediction.PredictionService/{method}"
        return Request(path, message.SerializeToString(), headers=told)

    def read(_head: bytes, body: bytes) -> int:
        message = answer.FromString(body)
        return 1 if rows == 1 else len(message.predictions)

    return write, read


def _infer(asked: Asked) -> tuple[Callable[[Batch], Request], Reader]:
    answer = messages.message("inference.ModelInferResponse")

    def write(batch: Batch) -> Request:
        message = oip.request_of(batch, model=asked.model, version=asked.version)
        return Request("/inference.GRPCInferenceService/ModelInfer", message.SerializeToString())

    def read(_head: bytes, body: bytes) -> int:
        return len(oip.answered_tensors(answer.FromString(body))[0].values)

    return write, read
