"""The gRPC errors table: from the error tree to status codes, and the details of a failed call."""

import math
from base64 import b64encode
from enum import IntEnum
from urllib.parse import quote

from foretell.codecs import messages
from foretell.errors import (
    BadPackage,
    BadSettings,
    DeadlineExceeded,
    Forbidden,
    ForetellError,
    InvalidInput,
    JobRefused,
    MissingExtra,
    ModelFailed,
    NoAnswer,
    NotFound,
    NotReady,
    Overloaded,
    StartFailed,
    StoreFailed,
    TooLarge,
    Unauthenticated,
)

Trailers = list[tuple[bytes, bytes]]

DOMAIN = "foretell"
_ANY = "type.googleapis.com/"
# Printable ASCII but the percent sign stays as it is (gRPC over HTTP/2, "Status-Message").
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
# What is told is cut at so many bytes: clients take 8 KiB of trailers, where it is three times.
_MOST_TOLD = 1000
_MOST_FIELD = 200


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CODES: dict[type[ForetellError], Code] = {
    InvalidInput: Code.INVALID_ARGUMENT,
    Unauthenticated: Code.UNAUTHENTICATED,
    Forbidden: Code.PERMISSION_DENIED,
    NotFound: Code.NOT_FOUND,
    TooLarge: Code.RESOURCE_EXHAUSTED,
    Overloaded: Code.RESOURCE_EXHAUSTED,
    ModelFailed: Code.INTERNAL,
    NotReady: Code.UNAVAILABLE,
    NoAnswer: Code.UNAVAILABLE,
    DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    # These end a start, a job or a management call; to a caller they are the server's own trouble.
    BadPackage: Code.INTERNAL,
    MissingExtra: Code.INTERNAL,
    BadSettings: Code.INTERNAL,
    StartFailed: Code.INTERNAL,
    JobRefused: Code.INTERNAL,
    StoreFailed: Code.INTERNAL,
}


class GrpcRefusal(Exception):
    """A call gRPC itself refuses, or a service's messages can't carry. Never leaves this door."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def too_large(size: int, most: int) -> TooLarge:
    """What is said of a message over the limit."""
    return TooLarge(
        f"a message has {size} bytes or more, but the limit is {most}; send fewer "
        "rows, or raise the server's max_body_bytes"
    )


def failure(error: ForetellError | GrpcRefusal, request_id: str) -> Trailers:
    """The trailers that tell of `error`: status, message, and google.rpc details."""
    code = error.code if isinstance(error, GrpcRefusal) else CODES[type(error)]
    trailers = [
        (b"grpc-status", b"%d" % code),
        (b"grpc-message", quote(_cut(error.message, _MOST_TOLD), safe=_PLAIN).encode()),
        (b"x-request-id", request_id.encode()),
    ]
    if isinstance(error, ForetellError):
        trailers.append((b"grpc-status-details-bin", b64encode(_details(error, code, request_id))))
        if isinstance(error, NotReady | Overloaded):
            trailers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
    return trailers


def _details(error: ForetellError, code: Code, request_id: str) -> bytes:
    told = {"request_id": request_id}
    message, field = _cut(error.message, _MOST_TOLD), _cut(error.field or "", _MOST_FIELD)
    if error.field is not None:
        told["field"] = field
    if error.row is not None:
        told["row"] = str(error.row)
    status = messages.message("google.rpc.Status")(code=code, message=message)
    info = messages.message("google.rpc.ErrorInfo")
    parts = [info(reason=error.code.upper(), domain=DOMAIN, metadata=told)]
    if error.field is not None:
        bad = messages.message("google.rpc.BadRequest")()
        bad.field_violations.add(field=field, description=message)
        parts.append(bad)
    if isinstance(error, NotReady | Overloaded):
        retry = messages.message("google.rpc.RetryInfo")()
        retry.retry_delay.seconds = int(error.retry_after_s)
        retry.retry_delay.nanos = int(error.retry_after_s % 1 * 1e9)
        parts.append(retry)
    for part in parts:
        status.details.add(
            type_url=_ANY + part.DESCRIPTOR.full_name, value=part.SerializeToString()
        )
    made: bytes = status.SerializeToString()
    return made


def _cut(text: str, most: int) -> str:
    """The text in no more than `most` bytes of UTF-8, which is all of it that can be told."""
    told = text.encode("utf-8", "replace")
    if len(told) > most:
        told = told[: most - 3] + b"..."
    return told.decode("utf-8", "ignore")
