"""A failure that a server told of becomes an error of the tree again, by its code."""

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

CODES: dict[str, type[ForetellError]] = {
    kind.code: kind
    for kind in (
        BadPackage,
        BadSettings,
        DeadlineExceeded,
        Forbidden,
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
}
DEFAULT_REST_S = 1.0
"""How long a server is left alone that does not say how long."""


def rebuilt(
    code: str,
    message: str,
    *,
    field: str | None = None,
    row: int | None = None,
    retry_after_s: float | None = None,
) -> ForetellError:
    """The error with this code; one that no leaf has is a NoAnswer."""
    kind = CODES.get(code, NoAnswer)
    error: ForetellError
    if kind is NotReady or kind is Overloaded:
        rest_s = DEFAULT_REST_S if retry_after_s is None else retry_after_s
        error = kind(message, retry_after_s=rest_s)
        error.field, error.row = field, row
    else:
        error = kind(message, field=field, row=row)
    return error


def unreachable(url: str, why: object) -> NoAnswer:
    """Nobody listens at `url`, or the way there is closed."""
    return NoAnswer(
        f"no connection to {url}: {why}; check the address, or start a server with foretell serve"
    )


def untrusted(url: str, why: object) -> NoAnswer:
    """Whoever answers at `url` has a certificate that nobody we trust has signed."""
    return NoAnswer(
        f"{url} is not trusted: {why}; name its authority's certificate with verify= "
        "(--cafile on the command line)"
    )


def broken(url: str, why: object) -> NoAnswer:
    """The connection to `url` ended too early."""
    return NoAnswer(f"the connection to {url} ended before the answer: {why}")


def too_long(url: str, most: int) -> TooLarge:
    """The answer from `url` has more bytes than are taken."""
    return TooLarge(
        f"the answer from {url} is larger than {most} bytes; ask for fewer rows at a time, or "
        "raise the client's max_reply_bytes"
    )


def late(url: str) -> DeadlineExceeded:
    """Nothing came from `url` in time."""
    return DeadlineExceeded(
        f"no answer from {url} before the deadline; give more timeout_s, or fewer rows"
    )
