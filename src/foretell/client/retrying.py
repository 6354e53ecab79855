"""Retries say which failed calls are sent again, after how long, and how many of them.

Rules:

1. A prediction changes nothing on the server, so asking again does no harm. Sent again is what a
   server did not begin (no connection, 503 or UNAVAILABLE, 429 or a full queue), and once what a
   breaking connection left open.
2. The pause is random, between nothing and a limit that doubles each time (full jitter). Where no
   other server is left to ask, it begins after what the last one asked for (Retry-After).
3. No call is sent again when its deadline would pass first, or when the pause would be longer
   than `most_wait_s`: it fails at once, with what the server said.
4. Each call adds `budget_ratio` to a budget of at most `budget`; each one that is sent again and
   may have reached a server takes 1. When it is used up, calls fail at once: retries must not
   bury servers that are in trouble.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is sent (`attempts` in all), and how patiently."""

    attempts: int = 4
    first_wait_s: float = 0.05
    most_backoff_s: float = 2.0
    most_wait_s: float = 30.0
    budget: float = 100.0
    budget_ratio: float = 0.2

    def backoff_s(self, sent: int, random: Callable[[], float]) -> float:
        """The pause after `sent` attempts; `random` gives numbers from 0 to below 1."""
        return random() * min(self.most_backoff_s, self.first_wait_s * 2.0 ** min(sent - 1, 64))


class Budget:
    """What is left for sending again; used by all calls of a client, from any thread."""

    def __init__(self, retries: Retries) -> None:
        self._most, self._ratio = retries.budget, retries.budget_ratio
        self._left = self._most
        self._lock = threading.Lock()

    def called(self) -> None:
        """A call begins."""
        with self._lock:
            self._left = min(self._most, self._left + self._ratio)

    def take(self) -> bool:
        """Whether a call may be sent again; it is paid for then."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True
