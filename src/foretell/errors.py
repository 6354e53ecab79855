"""The error tree: what went wrong, in words a person can act on; never a status code.

    ForetellError
    ├── InvalidInput        a row, field or body that the signature does not allow
    ├── NotFound            no such model, version or label
    ├── NotReady            the model is still loading, or is draining
    ├── Overloaded          the queue is full
    ├── DeadlineExceeded    the caller's deadline passed
    ├── TooLarge            a body or a batch over its limit
    ├── Unauthenticated     no or wrong credentials
    ├── Forbidden           credentials that do not allow this
    ├── ModelFailed         the model's own code raised, or broke its signature
    ├── NoAnswer            a client got none: no connection, a broken one, not our server
    ├── BadPackage          a package or model file that is altered, unsafe or unreadable
    ├── MissingExtra        an optional dependency is not installed
    ├── JobRefused          a batch job that another one on the same output stands against
    ├── StoreFailed         files could not be read or written: no space, no right, no answer
    ├── BadSettings         a setting, flag or variable that cannot be used
    └── StartFailed         the server could not start

Each door has one table from these classes to its own status words; a test demands
that every leaf stands in every table.
"""

from typing import ClassVar


class ForetellError(Exception):
    """Base of every error Foretell raises on purpose.

    `code` is the stable slug clients may compare with. `message` is one sentence that
    says what to do. `field` and `row` (counted from 0) say where, when that is known.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.row = row

    def __reduce__(self) -> tuple[object, ...]:
        # With copies and across processes it goes as it stands: leaves take other arguments.
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[ForetellError], args: tuple[object, ...]) -> ForetellError:
    return kind.__new__(kind, *args)


class InvalidInput(ForetellError):
    """Missing, unknown, wrongly typed or out-of-range input, a wrong shape, a malformed body."""

    code = "invalid_input"

    def at_row(self, row: int) -> "InvalidInput":
        """The same complaint, placed at `row` of a batch."""
        return InvalidInput(f"row {row}: {self.message}", field=self.field, row=row)


class NotFound(ForetellError):
    """No such model, version or label."""

    code = "not_found"


class _RetryLater(ForetellError):
    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(_RetryLater):
    """The model is not loaded yet or is draining; `retry_after_s` says when to come back."""

    code = "not_ready"


class Overloaded(_RetryLater):
    """The queue is full and the call was shed; `retry_after_s` says when to come back."""

    code = "overloaded"


class DeadlineExceeded(ForetellError):
    """The caller's deadline passed before an answer was there."""

    code = "deadline_exceeded"


class TooLarge(ForetellError):
    """A body, message or batch is over its limit."""

    code = "too_large"


class Unauthenticated(ForetellError):
    """No or wrong credentials."""

    code = "unauthenticated"


class Forbidden(ForetellError):
    """The credentials do not allow this."""

    code = "forbidden"


class ModelFailed(ForetellError):
    """The model's own code raised, or its answer broke its signature."""

    code = "model_failed"


class NoAnswer(ForetellError):
    """A client got no answer it can read: no connection, a broken one, or not a Foretell server."""

    code = "no_answer"


class BadPackage(ForetellError):
    """A package or model file is altered, unsafe or unreadable; it is refused at load."""

    code = "bad_package"


class MissingExtra(ForetellError):
    """An optional dependency is not installed; the message names the extra."""

    code = "missing_extra"


class JobRefused(ForetellError):
    """A batch job may not run: its output is another job's, or one is running there."""

    code = "job_refused"


class StoreFailed(ForetellError):
    """Files could not be read or written: a full disk, a missing right, a store without answer."""

    code = "store_failed"


class BadSettings(ForetellError):
    """A setting, flag or variable that cannot be used; the message names the nearest valid one."""

    code = "bad_settings"


class StartFailed(ForetellError):
    """The server could not start: an address is taken, or a worker could not load its models."""

    code = "start_failed"
