"""Exposing keeps the metrics at an address of their own: all workers listen there, too."""

from collections.abc import Awaitable

from starlette.types import Receive, Scope, Send

from foretell.app.serving.leaving import Entry


def apart(entry: Entry, exposed: Entry, bind: str) -> Entry:
    """`entry`, but `exposed` for what comes to the address `bind`, told by its port or path."""
    place: str | int
    if bind.startswith("unix:"):
        place, at = bind.removeprefix("unix:"), 0
    else:
        place, at = int(bind.rpartition(":")[2]), 1

    def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        came_to = scope.get("server")
        if scope["type"] == "http" and came_to is not None and came_to[at] == place:
            return exposed(scope, receive, send)
        return entry(scope, receive, send)

    return answer
