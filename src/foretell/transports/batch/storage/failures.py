"""A failure is what a store could not do, in a sentence that says what to do about it.

Each library raises what it likes, and some wrap it again: a failure is told by the names of the
classes and the codes that are found in an error and its causes.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from foretell.errors import ForetellError, StoreFailed

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, "InsufficientStorage", "XMinioStorageFull"})
_FORBIDDEN = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS),
        *("PermissionError", "NoCredentialsError", "PartialCredentialsError", "AccessDenied"),
        *("ClientAuthenticationError", "CredentialUnavailableError", "AuthorizationFailure"),
        *("GoogleAuthError", "DefaultCredentialsError", "Forbidden", 401, 403),
    }
)
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_NO_ANSWER = frozenset(
    {
        *("ConnectionError", "TimeoutError", "HTTPClientError", "EndpointConnectionError"),
        *("ClientConnectionError", "ServiceRequestError", "ServiceResponseError", "ProxyError"),
        *("FSTimeoutError", "ServiceUnavailable", "InternalError", "SlowDown"),
        *(500, 502, 503, 504),
    }
)
_MOST_TOLD = 200


@contextmanager
def failing(place: str, *, reading: bool = False) -> Iterator[None]:
    """Whatever a store raises is StoreFailed; `place` is what was read, or written."""
    try:
        yield
    except ForetellError:
        raise
    except Exception as error:
        raise StoreFailed(f"{place} {_told(place, error, reading=reading)}") from error


def codes_of(error: BaseException) -> frozenset[object]:
    """What tells an error and its causes: names of classes, numbers, codes of HTTP replies."""
    told: set[object] = set()
    cause: BaseException | None = error
    while cause is not None:
        told |= {kind.__name__ for kind in type(cause).__mro__}
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore's
            told.add(response.get("Error", {}).get("Code"))
            told.add(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        for name in ("errno", "code", "status", "status_code", "error_code"):
            told.add(_plain(getattr(cause, name, None)))
        told.add(str(cause).partition(":")[0])  # gcsfs has no code for "Forbidden: https://…"
        cause = cause.__cause__
    return frozenset(told)


def _plain(code: object) -> object:
    code = getattr(code, "value", code)
    return code if isinstance(code, str | int) else None


def _told(place: str, error: Exception, *, reading: bool) -> str:
    codes = codes_of(error)
    away = "://" in place
    if codes & _FULL:
        return "has no space left: make room, and give the same command again, which goes on"
    if codes & _FORBIDDEN:
        verb = "read" if reading else "written"
        which = "credentials that allow it" if away else "this user the right to"
        return f"may not be {verb}: give {which} ({_words(error)})"
    if away and (codes & _NO_BUCKET or ("FileNotFoundError" in codes and not reading)):
        return "is in no bucket that exists: make it, or correct the name"
    if codes & _NO_ANSWER:
        return (
            f"did not answer ({_words(error)}): see that it can be reached, and give the same "
            "command again, which goes on where this one ended"
        )
    if "FileNotFoundError" in codes:
        return "is not there"
    return f"cannot be {'read' if reading else 'written'}: {_words(error)}"


def _words(error: Exception) -> str:
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(told).split())[:_MOST_TOLD]
