"""The REST errors table: from the error tree to HTTP, and the one body all failures have."""

import math
from typing import Any

import msgspec

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

STATUS: dict[type[ForetellError], int] = {
    InvalidInput: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    TooLarge: 413,
    Overloaded: 429,
    ModelFailed: 500,
    NoAnswer: 502,
    NotReady: 503,
    DeadlineExceeded: 504,
    # These end a start, a job or a management call; over HTTP they are the server's own trouble.
    BadPackage: 500,
    MissingExtra: 500,
    BadSettings: 500,
    StartFailed: 500,
    JobRefused: 500,
    StoreFailed: 500,
}

HTTP_CODES = {
    400: InvalidInput.code,
    401: Unauthenticated.code,
    403: Forbidden.code,
    404: NotFound.code,
    405: "method_not_allowed",
    406: "not_acceptable",
    413: TooLarge.code,
    415: "unsupported_media_type",
    429: Overloaded.code,
    501: "not_implemented",
    503: NotReady.code,
    504: DeadlineExceeded.code,
}
"""Slugs for failures that HTTP itself finds, before a model is asked."""

Headers = list[tuple[bytes, bytes]]


class HttpRefusal(Exception):
    """A request HTTP itself refuses: a wrong method or media type. Never leaves this door."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


def failure(
    error: ForetellError | HttpRefusal, request_id: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, extra headers and body that tell of `error`."""
    headers: dict[str, str] = {}
    body: dict[str, Any] = {"error": str(error)}
    if isinstance(error, HttpRefusal):
        status, headers = error.status, error.headers
        body["code"] = HTTP_CODES.get(status, "internal" if status >= 500 else "invalid_input")
    else:
        status = STATUS[type(error)]
        body["code"] = error.code
        if error.field is not None:
            body["field"] = error.field
        if error.row is not None:
            body["row"] = error.row
        if isinstance(error, Unauthenticated):
            headers = {"www-authenticate": "Bearer"}
        if isinstance(error, NotReady | Overloaded):
            headers = {"retry-after": str(math.ceil(error.retry_after_s))}
    body["request_id"] = request_id
    return status, headers, msgspec.json.encode(body)
