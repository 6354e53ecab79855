"""A failure in the log is one line: whose request, of which model, in which field, and why.

Rules:

1. What is the caller's own mistake is told as information, what others are to blame for as a
   warning. Those of a model are the engine's to tell, once.
2. A reason may quote what was sent. It goes into fields of the record (`reason`, beside `code`),
   where whoever writes the log can leave it out.
3. A flood of failures makes no flood of lines: of each second there are so many, and the next
   line says how many are missing.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from foretell.core.call import trace_id_of
from foretell.errors import (
    Forbidden,
    ForetellError,
    InvalidInput,
    ModelFailed,
    NotFound,
    TooLarge,
    Unauthenticated,
)

LINES_PER_S = 50

_OWN_MISTAKES = (InvalidInput, NotFound, TooLarge, Unauthenticated, Forbidden)


def trace_fields(traceparent: bytes | None) -> dict[str, str]:
    """The trace that a request belongs to, as a field of records."""
    trace_id = trace_id_of(traceparent)
    return {} if trace_id is None else {"trace_id": trace_id}


class Failures:
    """Tells `log` of one door's failures."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._second = 0.0
        self._lines = 0
        self._missing = 0

    def tell(
        self,
        error: Exception,
        request_id: str,
        traceparent: bytes | None,
        asked: tuple[str, str] | None = None,
    ) -> None:
        """One line of `error`, which is of the request with this id, and of this trace.

        `asked` is the model and version, where they are known.
        """
        if isinstance(error, ModelFailed):
            return
        level = logging.WARNING
        if isinstance(error, _OWN_MISTAKES) or not isinstance(error, ForetellError):
            level = logging.INFO
        if not self._log.isEnabledFor(level) or not self._may_tell():
            return
        fields: dict[str, Any] = {"request_id": request_id, **trace_fields(traceparent)}
        if asked is not None:
            fields["model"], fields["version"] = asked
        if isinstance(error, ForetellError):
            fields |= {"code": error.code, "field": error.field, "row": error.row}
        fields["reason"] = str(error)
        if self._missing:
            fields["missing_lines"], self._missing = self._missing, 0
        told_fields = {name: value for name, value in fields.items() if value is not None}
        self._log.log(level, "a request failed", extra=told_fields)

    def _may_tell(self) -> bool:
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._lines = now, 0
        self._lines += 1
        self._missing += self._lines > LINES_PER_S
        return self._lines <= LINES_PER_S
