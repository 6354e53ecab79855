"""Posted routes are the inference routes of other servers' contracts, in a table from path to work.

Like the hot routes they stand in front of FastAPI and read bodies themselves, whatever their
Content-Type: the clients of these contracts send none, or a wrong one.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from foretell.core.batch import Batch
from foretell.core.call import Answer, Target
from foretell.engine.dataplane import DataPlane
from foretell.transports.asgi.bodies import Bodies, Held
from foretell.transports.asgi.caching import call_of
from foretell.transports.asgi.exchange import Told, apart, unless_gone
from foretell.transports.rest.errors import HttpRefusal
from foretell.transports.rest.exchange import Reply, deadline_of, replied, whole
from foretell.transports.rest.hot import RestLimits, route_path


@dataclass(frozen=True, slots=True)
class Posting:
    """One request: its headers, its id, when it came, and where its body comes from."""

    told: Told
    request_id: str
    arrived: float
    receive: Receive
    held: Held


Work = Callable[[Posting], Awaitable[Reply]]
_Read = TypeVar("_Read")


class PostedRoutes:
    """An ASGI application of the routes in `table`, which are asked with POST.

    `target_of` says whom a path of the routes' form asks, so that an unknown name is refused in
    the fleet's own words; None for other paths.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        limits: RestLimits,
        bodies: Bodies,
        target_of: Callable[[str], Target | None],
    ) -> None:
        self.table: dict[str, ASGIApp] = {}
        self._dataplane = dataplane
        self._limits = limits
        self._bodies = bodies
        self._target_of = target_of

    def add(self, path: str, target: Target, work: Work) -> None:
        """Let `work` make the replies to requests for `path`, which asks `target`."""
        loaded = self._dataplane.fleet.resolve(target)
        self.table[path] = partial(self._answer, work, (loaded.name, loaded.version))

    def owns(self, scope: Scope) -> bool:
        """Whether the path is one of these routes, of a model that exists or not."""
        path = route_path(scope)
        return path in self.table or self._target_of(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a path that these routes own."""
        path = route_path(scope)
        answer = self.table.get(path)
        if answer is not None:
            await answer(scope, receive, send)
            return

        async def refuse(_told: Told, _request_id: str) -> Reply:
            self._dataplane.fleet.resolve(self._target_of(path) or Target())
            raise HttpRefusal(404, f"there is no route {path}")

        await replied(scope, send, refuse)

    async def _answer(
        self, work: Work, asked: tuple[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def made(told: Told, request_id: str) -> Reply:
            if scope["method"] != "POST":
                raise HttpRefusal(
                    405, f"{scope['method']} is not possible here; send POST", {"allow": "POST"}
                )
            return await work(Posting(told, request_id, time.monotonic(), receive, held))

        with self._bodies.holding() as held:
            await replied(scope, send, made, asked)

    async def read(self, posting: Posting, read: Callable[[bytes], _Read]) -> _Read:
        """What `read` makes of the request's body, decompressed.

        Raises what `read` raises, TooLarge, Overloaded, ClientGone and HttpRefusal.
        """
        most = self._limits.max_body_bytes
        body = await whole(posting.told, posting.receive, most, posting.held)
        return await apart(len(body), lambda: read(body))

    async def ask(
        self, target: Target, batch: Batch, posting: Posting, *, timeout_s: float = 0.0
    ) -> Answer:
        """The model's answer within `timeout_s` (0: as long as it takes) and the header's deadline.

        Raises what the data plane raises, and ClientGone.
        """
        deadline = deadline_of(posting.told, posting.arrived)
        if timeout_s:
            own = posting.arrived + timeout_s
            deadline = own if deadline is None else min(own, deadline)
        call = call_of(posting.told, posting.request_id, deadline)
        asked = self._dataplane.infer(target, batch, call)
        if batch.n_rows == 1 and self._dataplane.runs_inline(target):
            return await asked  # it is answered before its caller could leave
        return await unless_gone(posting.receive, asked)
