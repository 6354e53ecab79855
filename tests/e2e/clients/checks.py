"""Runs the checks of one client, in a process of its own: their protobuf files exclude another."""

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Check = Callable[[str], Any]


def run(found: Mapping[str, Any]) -> None:
    """Call every function in `found` named `check_…` with the server's address, and tell its name.

    The first that raises ends the process with its traceback.
    """
    (address,) = sys.argv[1:]
    for name, check in found.items():
        if name.startswith("check_"):
            answer = check(address)
            if inspect.isawaitable(answer):
                asyncio.run(_awaited(answer))
            print(name, flush=True)


@contextmanager
def refused(kind: type[Exception], words: str) -> Iterator[None]:
    """Hold what is within to raise a `kind` that says `words`."""
    told = "nothing"
    try:
        yield
    except kind as error:
        told = str(error)
    if words not in told:
        raise AssertionError(f"{told!r} was raised; it should say {words!r}")


async def _awaited(answer: Any) -> None:
    await answer
