"""A clock turned by hand, and a driver that plays what servers do while it turns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from foretell.client.balancing import Balance, Balancer, Ejection, upstreams_of
from foretell.client.calling import Attempt, Calls, Joining, Kind, Outcome, Pause, Reply, Steps
from foretell.client.retrying import Retries
from foretell.errors import (
    DeadlineExceeded,
    ForetellError,
    InvalidInput,
    NoAnswer,
    NotReady,
    Overloaded,
)

Result = TypeVar("Result")

A, B, C = "http://a", "http://b", "http://c"
GOOD = Outcome(Kind.ANSWERED, Reply(b"good"))


def failed(kind: Kind, rest_s: float = 0.0) -> Outcome:
    """The outcome of an attempt that ended so."""
    error: ForetellError
    match kind:
        case Kind.SHED:
            error = Overloaded("full", retry_after_s=rest_s)
        case Kind.UNREADY:
            error = NotReady("loading", retry_after_s=rest_s)
        case Kind.SILENT:
            error = DeadlineExceeded("late")
        case Kind.ANSWERED:
            error = InvalidInput("bad")
        case _:
            error = NoAnswer(kind)
    return Outcome(kind, error=error)


@dataclass
class World:
    """The time, and what was done in it."""

    now: float = 1000.0
    attempts: list[tuple[float, Attempt]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    draw: float = 0.5

    def calls(
        self,
        *urls: str,
        retries: Retries | None = None,
        balance: Balance = "round_robin",
        ejection: Ejection | None = None,
    ) -> Calls:
        balancer = Balancer(upstreams_of(urls), balance, ejection)
        return Calls(
            balancer, retries or Retries(), clock=lambda: self.now, random=lambda: self.draw
        )

    def play(
        self,
        steps: Steps[Result],
        server: Callable[[Attempt], Outcome],
        takes_s: float = 0.0,
    ) -> Result:
        """What `steps` come to, where `server` answers each attempt after `takes_s`."""
        came: Outcome | None = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as ended:
                result: Result = ended.value
                return result
            came = None
            match step:
                case Attempt():
                    self.attempts.append((self.now, step))
                    if step.timeout_s is not None and takes_s >= step.timeout_s:
                        self.now += step.timeout_s
                        came = failed(Kind.SILENT)
                    else:
                        self.now += takes_s
                        came = server(step)
                case Pause():
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                case Joining():
                    raise AssertionError("nobody else is there to be joined")

    @property
    def asked(self) -> list[str]:
        """The servers, in the order they were asked."""
        return [attempt.url for _, attempt in self.attempts]
