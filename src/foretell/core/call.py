"""A call is one request's errand to the data plane: whom it asks, on what terms, what came back."""

from dataclasses import dataclass

from foretell.core.batch import Batch


@dataclass(frozen=True, slots=True)
class Target:
    """Which model is asked: `model` None is the default one, `version` None the routed one."""

    model: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """The terms of a request, whichever door it came through: never headers.

    `deadline` is on the monotonic clock, in seconds; None waits as long as it takes.
    """

    request_id: str
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The output batch, and which model and version gave it."""

    outputs: Batch
    model: str
    version: str
