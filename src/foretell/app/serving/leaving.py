"""Leaving in good order: workers announce that they go before the server is told to let them go.

h2corn ends what is in flight when a worker leaves, but it closes the connections of HTTP/1.1
clients without a word: each of them that is just sending loses a request. So a signal is kept
from the server at first. The workers get a `Notice`; from then on each answer carries
`Connection: close`, readiness is false if the whole server stops, and watches end. HTTP/2 and
gRPC clients are told by the server itself (see also `lingering`).
"""

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from starlette.types import Message, Receive, Scope, Send

from foretell.engine.notice import Notice

Entry = Callable[[Scope, Receive, Send], Awaitable[None]]

_STOPS = {signal.SIGTERM, signal.SIGINT}
_KEPT = {*_STOPS, signal.SIGHUP}
_LOOK_EVERY_S = 0.02


@contextmanager
def announced(notice: Notice, grace_s: float) -> Iterator[None]:
    """Inside, SIGTERM, SIGINT and SIGHUP reach the server after the workers were told.

    SIGTERM does so `grace_s` later, or when another one comes. SIGINT, which is somebody at a
    keyboard, does so at once, and so does SIGHUP: a worker's replacement has to start first.
    To be entered by the main thread while no other runs that could take the signals.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)
    threading.Thread(target=_keep, args=(notice, grace_s), daemon=True).start()
    try:
        yield
    finally:
        hear_signals()


def hear_signals() -> None:
    """Let signals reach this thread again: a worker is forked with those kept from its server."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KEPT)


def leave_signals_to_the_server() -> None:
    """In a worker, do nothing about signals that end processes: its server tells it by a pipe.

    A keyboard sends them to the whole group, and so do systemd and `timeout`. A worker that left
    by itself would have told nobody, and be replaced. To be called on the worker's event loop.
    """
    loop = asyncio.get_running_loop()
    for number in _KEPT:
        loop.add_signal_handler(number, _nothing)
    hear_signals()


def _nothing() -> None:
    pass


def _keep(notice: Notice, grace_s: float) -> None:
    while True:
        number = signal.sigwait(_KEPT)
        first = not notice.stopping
        notice.give(stopping=number in _STOPS)
        until = time.monotonic() + grace_s
        while number == signal.SIGTERM and first and time.monotonic() < until:
            if signal.sigpending() & _STOPS:
                break
            time.sleep(_LOOK_EVERY_S)
        pass_on(number)


def pass_on(number: int) -> None:
    """Give a signal to the server now; workers were told, or there are none."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    try:
        signal.raise_signal(number)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})


def closing(entry: Entry, notice: Notice) -> Entry:
    """`entry`, whose HTTP/1.1 answers say that the connection closes once this process leaves."""

    def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if notice.leaving and scope["type"] == "http" and scope["http_version"] == "1.1":
            return entry(scope, receive, partial(_send_closing, send))
        return entry(scope, receive, send)

    return answer


async def _send_closing(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        told = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
        message = {**message, "headers": [*told, (b"connection", b"close")]}
    await send(message)
