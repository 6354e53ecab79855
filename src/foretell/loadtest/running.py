"""A run sends the requests of one payload at one server, and records what comes of them.

Rules:

1. With a rate the loop is open: request n is due n / rate seconds after the start, whatever the
   server does. It waits here when no connection is free, and its latency goes on.
2. Without one the loop is closed: so many requests are under way, and each answer sends another.
3. Nothing is held for a request that waits here: when it was due follows from its number.
4. After the end, what was due is still sent and waited for, no longer than the timeout.
5. A connection that is lost is made anew, a moment later each time it fails again.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np

from foretell.errors import NoAnswer
from foretell.loadtest.payloads import Payload
from foretell.loadtest.recording import Recording, Second
from foretell.loadtest.sending import http1, http2
from foretell.loadtest.sending.links import SILENT, Call, Link, Place
from foretell.loadtest.sending.pacing import Alarm

_FIRST = 16
"""Requests under way that an open loop has connections for from the start."""
_LOOK_EVERY_S = 0.1
_IDLE_S = 4.0
"""Connections that have rested so long are made anew: servers close them after some five."""
_CONNECT_S = 5.0
_PAUSE_S, _MOST_PAUSE_S = 0.05, 1.0
_CONNECTING = 16
_TRIES = 3

Watch = Callable[[Second], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much, and for how long. `concurrency` is the most requests under way at a time."""

    rate: float | None
    concurrency: int
    duration_s: float
    warmup_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to, before anybody judges it."""

    recording: Recording
    sent: int
    unsent: int
    waited: int
    """Requests that were due while no connection was free."""
    connections: int
    unread: str | None
    """Why an answer that was read in full is none."""
    checked: int


class Run:
    """Drives the links of one run."""

    def __init__(self, payload: Payload, place: Place, plan: Plan, watch: Watch) -> None:
        self.wants_sample = True
        self._payload, self._place, self._plan, self._watch = payload, place, plan, watch
        self._idle: deque[Link] = deque()
        self._links: dict[Link, float] = {}  # and when they were made
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent = self._settled = self._waited = self._checked = 0
        self._connecting, self._failures = 0, 0
        self._is_over = self._has_ended = False
        self._unread: str | None = None
        self._why_not = ""
        self._make: Callable[[], Link]
        is_grpc = payload.protocol.is_grpc
        self._streams = min(http2.STREAMS, plan.concurrency) if is_grpc else 1
        if is_grpc:
            calls = [http2.written(request, place) for request in payload.requests]
            self._make = lambda: cast("Link", http2.GrpcLink(self, calls, self._streams))
        else:
            bodies = [http1.written(request, place) for request in payload.requests]
            self._make = lambda: cast("Link", http1.HttpLink(self, bodies, payload.begins))
        self._tls = place.tls("h2" if is_grpc else "http/1.1")
        self._rate = plan.rate
        self._most_now = 0  # of a closed loop's requests under way; none before it starts
        self._start = math.inf
        self._due = math.inf
        self._ends = math.inf
        self._recording: Recording

    async def carry_out(self) -> Outcome:
        """The whole run. Raises NoAnswer when nobody takes a connection."""
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._ring)
        self._recording = Recording(math.inf, math.inf)
        most = self._plan.concurrency
        first = most if self._rate is None else min(most, _FIRST)
        try:
            connections = math.ceil(first / self._streams)
            for _ in range(connections):
                self._connect()
            await self._until_connected(_TRIES * connections)
            with _without_pauses():
                await self._measure()
            return self._outcome()
        finally:
            self._is_over = True
            self._alarm.close()
            for link in list(self._links):
                link.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _until_connected(self, tries: int) -> None:
        """Until one connection is there. Raises NoAnswer."""
        end = time.monotonic() + _CONNECT_S
        while not self._idle:
            if time.monotonic() > end or self._failures >= tries:
                words = self._why_not or f"nobody took the connection within {_CONNECT_S:.0f} s"
                protocol = self._payload.protocol
                raise NoAnswer(f"{self._place.authority} cannot be asked over {protocol}: {words}")
            await asyncio.sleep(_LOOK_EVERY_S / 10)

    async def _measure(self) -> None:
        plan = self._plan
        self._start = start = time.monotonic()
        begins, self._ends = start + plan.warmup_s, start + plan.warmup_s + plan.duration_s
        self._recording = Recording(begins, self._ends)
        self._due = start
        self._ring()
        if self._rate is None:
            self._most_now = plan.concurrency
            while self._sent < plan.concurrency and (link := self._free_link()) is not None:
                self._send(link, time.monotonic())
        await self._look_until(begins)
        self._recording.begin(time.monotonic())
        for second in range(1, math.ceil(plan.duration_s) + 1):
            await self._look_until(min(begins + second, self._ends))
            self._fold()
        self._is_over = self._rate is None  # a closed loop sends no more
        give_up = self._ends + plan.timeout_s
        while time.monotonic() < give_up and (self._settled < self._sent or self._has_due):
            await self._look_until(min(time.monotonic() + _LOOK_EVERY_S, give_up))
            if time.monotonic() - self._recording.folded_at >= 1.0:
                self._fold()
        self._is_over = True

    async def _look_until(self, until: float) -> None:
        """Look after the links now and then, until that moment."""
        while (now := time.monotonic()) < until:
            await asyncio.sleep(min(until - now, _LOOK_EVERY_S))
            now = time.monotonic()
            for link in list(self._links):
                if not link.is_idle:
                    link.give_up(now - self._plan.timeout_s)
                elif link.last_used < now - _IDLE_S:
                    link.close()

    def _fold(self) -> None:
        self._watch(self._recording.fold(time.monotonic(), self._sent - self._settled))
        self.wants_sample = True

    @property
    def _has_due(self) -> bool:
        """Whether requests wait here for a connection."""
        return self._rate is not None and self._due < self._ends

    def _ring(self) -> None:
        """Send what is due, as far as there are free connections; be back for the next one."""
        if self._rate is None or self._is_over:
            self._alarm.clear()
            return
        now = time.monotonic()
        while self._due <= now and self._due < self._ends:
            link = self._free_link()
            if link is None:
                self._alarm.clear()  # the next free connection takes it
                self._grow()
                return
            self._recording.delay(self._due, now)
            self._send_due(link, now)
        if self._due < self._ends:
            self._alarm.set(self._due)
        else:
            self._alarm.clear()

    def _free_link(self) -> Link | None:
        while self._idle:
            link = self._idle.popleft()
            if link.is_open:
                return link
        return None

    def _send_due(self, link: Link, now: float) -> None:
        assert self._rate is not None  # noqa: S101 - for the type checker: the loop is open
        number, intended = self._sent, self._due
        self._sent = number + 1
        self._due = self._start + self._sent / self._rate
        link.send(number, Call(intended, now))

    def _send(self, link: Link, now: float) -> None:
        number, self._sent = self._sent, self._sent + 1
        link.send(number, Call(now, now))

    def free(self, link: Link) -> None:
        """`link` can take another request: one that waits, or the next of a closed loop."""
        if self._rate is None:
            if not self._is_over and self._sent - self._settled < self._most_now:
                self._send(link, time.monotonic())
            else:
                self._idle.append(link)
            return
        now = time.monotonic()
        if self._due <= now and self._due < self._ends and not self._is_over:
            waits = not self._idle
            if waits:
                self._waited += 1
                self._send_due(link, now)
            else:
                self._idle.append(link)
            self._ring()
        else:
            self._idle.append(link)

    def answered(self, call: Call, size: int) -> None:
        """An answer came."""
        self._settled += 1
        self._recording.answer(call, size)

    def sample(self, head: bytes, body: bytes) -> None:
        """Read an answer in full, once a second: it must have as many rows as were sent."""
        self.wants_sample = False
        self._checked += 1
        try:
            rows = self._payload.reader(head, body)
        except Exception as error:  # noqa: BLE001 - whatever a reader says of a wrong body
            self._unread = f"an answer cannot be read: {error}"
        else:
            if rows != self._payload.rows:
                self._unread = f"an answer has {rows} rows, not {self._payload.rows}"

    def failed(self, call: Call, why: str) -> None:
        """There is no answer."""
        self._settled += 1
        waited = why == SILENT
        if waited and self._has_ended:
            why = "no answer when the run ended"
        self._recording.failure(call, why, waited=waited)

    def lost(self, link: Link, why: str) -> None:
        """A connection has ended: make another one."""
        made_at = self._links.pop(link)
        self._why_not = why
        if self._is_over:
            return
        was_of_use = link.last_used > made_at
        self._failures += not was_of_use
        self._connect(0.0 if was_of_use else _PAUSE_S)

    def _grow(self) -> None:
        """Make another connection, unless there are as many as may be."""
        links = len(self._links) + self._connecting
        if self._connecting < _CONNECTING and links * self._streams < self._plan.concurrency:
            self._connect()

    def _connect(self, pause_s: float = 0.0) -> None:
        self._connecting += 1
        task = self._loop.create_task(self._connected(pause_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, pause_s: float) -> None:
        """Make one connection, as often as it takes."""
        try:
            while not self._is_over:
                await asyncio.sleep(pause_s)
                try:
                    made = self._loop.create_connection(
                        lambda: cast("asyncio.Protocol", self._make()),
                        self._place.host,
                        self._place.port,
                        ssl=self._tls,
                    )
                    await asyncio.wait_for(made, _CONNECT_S)
                except OSError as error:  # TimeoutError is one
                    self._failures += 1
                    self._why_not = str(error) or self._why_not
                    pause_s = min(max(_PAUSE_S, 2 * pause_s), _MOST_PAUSE_S)
                else:
                    return
        finally:
            self._connecting -= 1

    def made(self, link: Link) -> None:
        """A connection is there."""
        link.last_used = time.monotonic()
        self._links[link] = link.last_used
        if self._is_over:
            link.close()

    def _outcome(self) -> Outcome:
        now, unsent = time.monotonic(), 0
        self._has_ended = True
        for link in list(self._links):
            link.give_up(math.inf)
        if self._rate is not None and self._has_due:
            last = math.ceil((self._ends - self._start) * self._rate)
            missing = self._start + np.arange(self._sent, last) / self._rate
            missing = missing[(missing >= self._recording.begins) & (missing < self._ends)]
            unsent = len(missing)
            self._recording.unsent(missing, now)
        self._recording.fold(now, 0)
        return Outcome(
            self._recording,
            self._sent,
            unsent,
            self._waited,
            len(self._links),
            self._unread,
            self._checked,
        )


@contextmanager
def _without_pauses() -> Iterator[None]:
    """Keep the garbage collector from what was there before the run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
