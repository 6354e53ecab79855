"""A lease is the lock of an object store: a claim that holds as long as it is renewed.

Rules:

1. Leases are objects with numbers, each created only where there is none. The highest one counts.
2. Its owner writes it anew, over and over. One that has not changed for `lease_s`, as whoever
   waits for it has measured, was given up: who creates the next number has it. No clocks are
   compared, of machines or of the store.
3. An owner that could not renew in time (cut off, asleep) trusts it no more, before anybody else
   may take over. It goes on when it gets the next number itself, which proves that nobody was
   there meanwhile; else it stops.
4. A lease that is given back stays, and says so: numbers never go back. Only where nothing else
   is left, it goes, too.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from foretell.errors import JobRefused, StoreFailed

LEASE_S = 60.0
FOLDER = "_foretell/lease/"
_HELD = 0.8
"""The share of a lease after which its owner does not trust it any more."""
_RENEWALS = 3
Clock = Callable[[], float]


class Objects(Protocol):
    """What a lease needs of a store; its `create` has one winner."""

    @property
    def place(self) -> str: ...
    def names(self, prefix: str = "") -> Iterator[str]: ...
    def read(self, name: str) -> bytes: ...
    def put(self, name: str, data: bytes) -> None: ...
    def create(self, name: str, data: bytes) -> bool: ...
    def remove(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """What a lease says: who has it, and how often it was renewed."""

    token: str
    host: str
    pid: int
    since: str
    renewals: int = 0
    free: bool = False

    def written(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def claim() -> Claim:
    """A new claim of this process."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Claim(secrets.token_hex(8), socket.gethostname(), os.getpid(), now)


def refusal(place: str, told: Mapping[str, Any]) -> JobRefused:
    """What is said to a second job; `told` is the first one's claim."""
    who = "".join(f", {told[name]}" for name in ("host", "since") if name in told)
    pid = f" (process {told['pid']}{who})" if "pid" in told else ""
    return JobRefused(
        f"another job{pid} is running on {place}: wait until it ends, or name another OUTPUT"
    )


class _Seen(NamedTuple):
    """The lease that counts; number 0: there is none."""

    number: int
    text: bytes = b"{}"

    @property
    def claim(self) -> Mapping[str, Any]:
        try:
            told = json.loads(self.text)
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    @property
    def is_free(self) -> bool:
        return not self.number or self.claim.get("free") is True


class Lease:
    """A claim that this process holds, and renews in a thread of its own."""

    def __init__(self, store: Objects, number: int, lease_s: float, clock: Clock) -> None:
        self._store = store
        self._number = number
        self._claim = claim()
        self._lease_s = lease_s
        self._clock = clock
        self._renewed = clock()
        self._is_taken = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="foretell-lease", daemon=True)

    def held(self) -> None:
        """Return if it is held still. Raises JobRefused when it is another's, StoreFailed."""
        with self._lock:
            if self._is_late() and not self._is_taken:
                self._retake()
            if self._is_taken:
                raise JobRefused(
                    f"another job has taken over {self._store.place}, as this one gave no sign"
                )

    def take(self) -> None:
        """Create it. Raises JobRefused when another job was quicker, StoreFailed."""
        store, name, text = self._store, _name(self._number), self._claim.written()
        # Asked again after a lost answer, a store says that there is one: ours.
        if not store.create(name, text) and _newest(store) != _Seen(self._number, text):
            raise refusal(store.place, _newest(store).claim)
        if store.create(name, text):
            raise StoreFailed(
                f"{store.place} writes over what is only to be created (it has no conditional "
                "writes), so two jobs could spoil each other's work: name an OUTPUT elsewhere"
            )

    def start(self) -> None:
        """Begin to renew it."""
        self._thread.start()

    def give_back(self) -> None:
        """Let others have it at once."""
        self._ended.set()
        self._thread.join()
        if not self._is_taken and not self._is_late():
            # Where the store does not answer, it ends by itself.
            with suppress(StoreFailed):
                self._claim = replace(self._claim, free=True)
                self._store.put(_name(self._number), self._claim.written())
                if all(name.startswith(FOLDER) for name in self._store.names()):
                    self._store.remove(_name(self._number))

    def renew(self) -> None:
        """Say that it is held still."""
        with self._lock, suppress(StoreFailed):  # it is tried again; `held` raises it in the end
            if self._is_taken:
                return
            if self._is_late():
                self._retake()
                return
            started = self._clock()
            self._claim = replace(self._claim, renewals=self._claim.renewals + 1)
            self._store.put(_name(self._number), self._claim.written())
            if _numbers(self._store)[-1:] > [self._number]:
                self._is_taken = True
            else:
                self._renewed = started

    def _is_late(self) -> bool:
        return self._clock() - self._renewed > _HELD * self._lease_s

    def _retake(self) -> None:
        """Have the next number, if nobody came meanwhile; who came has removed ours."""
        before, started = self._number, self._clock()
        try:
            is_ours = json.loads(self._store.read(_name(before)))["token"] == self._claim.token
        except (KeyError, ValueError):
            is_ours = False
        number, text = before + 1, self._claim.written()
        if is_ours and (
            self._store.create(_name(number), text) or _newest(self._store) == _Seen(number, text)
        ):
            self._number, self._renewed = number, started
            self._store.remove(_name(before))
        else:
            self._is_taken = True

    def _keep(self) -> None:
        while not self._ended.wait(self._lease_s / _RENEWALS):
            self.renew()


@contextmanager
def leased(
    store: Objects,
    lease_s: float,
    pause: Callable[[float], object] = time.sleep,
    clock: Clock = time.monotonic,
) -> Iterator[Lease]:
    """The lease of a store. Waits at most `lease_s` for one that was left. Raises JobRefused."""
    seen = _awaited(store, lease_s, pause, clock)
    lease = Lease(store, seen.number + 1, lease_s, clock)
    lease.take()
    lease.start()
    try:
        for number in _numbers(store):
            if number <= seen.number:
                store.remove(_name(number))
        yield lease
    finally:
        lease.give_back()


def _awaited(
    store: Objects, lease_s: float, pause: Callable[[float], object], clock: Clock
) -> _Seen:
    """The lease that comes before ours: none, a free one, or one that nobody renews."""
    seen = _newest(store)
    started = clock()
    while not seen.is_free and clock() - started <= lease_s:
        pause(min(1.0, lease_s / 10))
        now = _newest(store)
        if not now.is_free and now != seen:
            raise refusal(store.place, now.claim)
        seen = now
    return seen


def _name(number: int) -> str:
    return f"{FOLDER}{number:08d}.json"


def _numbers(store: Objects) -> list[int]:
    stems = (name.removeprefix(FOLDER).removesuffix(".json") for name in store.names(FOLDER))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _newest(store: Objects) -> _Seen:
    while numbers := _numbers(store):
        # One that has gone since was followed by another, which is seen the next time.
        with suppress(KeyError):
            return _Seen(numbers[-1], store.read(_name(numbers[-1])))
    return _Seen(0)
