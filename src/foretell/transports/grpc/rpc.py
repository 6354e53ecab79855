"""An rpc is one call over gRPC: who asks until when, and what goes out with the status."""

import functools
import logging
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from starlette.types import Message, Receive

from foretell.core.call import Answer, Call
from foretell.errors import ForetellError
from foretell.transports.asgi.access.grants import Grant
from foretell.transports.asgi.bodies import Held
from foretell.transports.asgi.caching import cache_headers, call_of
from foretell.transports.asgi.exchange import Told, request_id_of, unless_gone
from foretell.transports.asgi.failing import Failures
from foretell.transports.grpc.errors import GrpcRefusal, Trailers

_failures = Failures(logging.getLogger("foretell.grpc"))
_OK = (b"grpc-status", b"0")
_Result = TypeVar("_Result")


class Rpc:
    """One call: who asks until when, and what goes out with the status.

    `asked` is the model and version, as soon as they are known.
    """

    __slots__ = (
        "asked",
        "deadline",
        "grant",
        "held",
        "receive",
        "request_id",
        "told",
        "trailing",
    )

    def __init__(self, told: Told, receive: Receive, grant: Grant | None = None) -> None:
        self.receive = receive
        self.grant = grant
        self.asked: tuple[str, str] | None = None
        self.held: Held | None = None
        self.told = told
        self.request_id = request_id_of(told)
        self.deadline: float | None = None
        self.trailing: Trailers = []

    def allow(self, model: str | None) -> None:
        """Raise Forbidden unless the caller may ask `model`; None stands for all models."""
        if self.grant is not None:
            self.grant.refuse_other(model)

    @property
    def call(self) -> Call:
        """The terms for the data plane."""
        return self.call_until(self.deadline)

    def call_until(self, deadline: float | None) -> Call:
        """The same with another deadline."""
        return call_of(self.told, self.request_id, deadline)

    def tell_cache(self, answer: Answer) -> None:
        """Say at the end of the call what the result cache did, where there is one."""
        self.trailing += cache_headers(answer)

    def log(self, error: ForetellError | GrpcRefusal) -> None:
        """Tell the log of a failure."""
        _failures.tell(error, self.request_id, self.told.get(b"traceparent"), self.asked)

    @property
    def trailers(self) -> Trailers:
        """What ends a call that was answered."""
        return [_OK, (b"x-request-id", self.request_id.encode()), *self.trailing]

    @property
    def compresses(self) -> bool:
        """Whether the client sends gzip, and reads it."""
        told = self.told
        if told.get(b"grpc-encoding") != b"gzip":
            return False
        return b"gzip" in told.get(b"grpc-accept-encoding", b"")

    async def unless_gone(self, work: Awaitable[_Result]) -> _Result:
        """What `work` returns, cancelled when the client leaves. Raises ClientGone.

        For when all of its messages have been read.
        """
        return await unless_gone(self.receive, work)


class Begun:
    """An event that has not come yet, to be awaited by the task that asked for it, at once."""

    __slots__ = ("_first", "_steps")

    def __init__(self, steps: Generator[Any, Any, Message], first: Any) -> None:
        self._steps = steps
        self._first = first

    def __await__(self) -> Generator[Any, Any, Message]:
        """Go on where `next_of` had to stop."""
        steps, told = self._steps, self._first
        while True:
            try:
                yield told
            except BaseException as error:  # handed on: it is for who was stopped
                throw = getattr(steps, "throw", None)  # a server's own futures may have none
                if throw is None:
                    raise
                step: Callable[[], Any] = functools.partial(throw, error)
            else:
                step = steps.__next__
            try:
                told = step()
            except StopIteration as ended:
                event: Message = ended.value
                return event


def next_of(receive: Receive) -> Message | Begun:
    """The next event when it is there, else what waits for it.

    Nearly always it is there, and a limit of time, which costs as much as a quick model, needless.
    """
    steps: Any = receive().__await__()
    try:
        first = next(steps)
    except StopIteration as ended:
        event: Message = ended.value
        return event
    return Begun(steps, first)
