"""A recording is what came of a run's requests, second by second and in all.

Rules:

1. A request's latency counts from when it was meant to be sent, so waiting for a stalled server
   counts. `service` counts from when it was sent: what a closed loop would have seen.
2. What is measured is what was meant to be sent after the warm-up and before the end. Requests
   that got no answer by the end count with the time they had waited by then, which is less than
   they would have had to; refused ones are errors, and have no latency.
3. Throughput is the answers that came between the two, whenever their requests were sent.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretell.core.field import Array
from foretell.loadtest.histogram import Histogram
from foretell.loadtest.sending.links import Call
from foretell.loadtest.usage import Usage

_MOST_KINDS = 20


@dataclass(frozen=True, slots=True)
class Second:
    """One second of a run; `at` is where it begins, 0 after the warm-up. Latencies in seconds."""

    at: float
    length_s: float
    answered: int
    failed: int
    p50_s: float
    p99_s: float
    under_way: int
    cpu: float
    """The generator's own, in cores."""
    in_line: float
    """The share of it that the generator waited for a core."""


class Recording:
    """Takes what links tell, and folds it each second."""

    def __init__(self, begins: float, ends: float) -> None:
        self.begins, self.ends = begins, ends
        self.latency, self.service, self.lateness = Histogram(), Histogram(), Histogram()
        self.seconds: list[Second] = []
        self.errors: Counter[str] = Counter()
        self.answered = self.failed = self.unanswered = self.in_time = 0
        self.reply_bytes = 0
        self._latencies: list[float] = []
        self._services: list[float] = []
        self._delays: list[float] = []
        self._now_failed = self._now_answered = 0
        self.folded_at, self._usage = begins, Usage.now()

    def begin(self, now: float) -> None:
        """The warm-up is over."""
        self.folded_at, self._usage = now, Usage.now()
        self._now_failed = self._now_answered = 0

    def answer(self, call: Call, size: int) -> None:
        """An answer came now."""
        now = time.monotonic()
        self._now_answered += 1
        if self.begins <= now < self.ends:
            self.in_time += 1
        if self.begins <= call.intended < self.ends:
            self.answered += 1
            self.reply_bytes += size
            self._latencies.append(now - call.intended)
            self._services.append(now - call.sent)

    def failure(self, call: Call, why: str, *, waited: bool) -> None:
        """There is no answer; `waited`: it would have taken longer than this."""
        self._now_failed += 1
        if self.begins <= call.intended < self.ends:
            self.failed += 1
            if why in self.errors or len(self.errors) < _MOST_KINDS:
                self.errors[why] += 1
            else:
                self.errors["others"] += 1
            if waited:
                self.unanswered += 1
                now = time.monotonic()
                self._latencies.append(now - call.intended)
                self._services.append(now - call.sent)

    def delay(self, intended: float, now: float) -> None:
        """A request is sent now, for which a connection was free when it was due."""
        if self.begins <= intended < self.ends:
            self._delays.append(now - intended)

    def unsent(self, intended: Array, now: float) -> None:
        """These were never sent."""
        self.latency.add(now - intended)

    def fold(self, now: float, under_way: int) -> Second:
        """The second that ends now."""
        usage, length_s = Usage.now(), max(now - self.folded_at, 1e-9)
        p50_s, p99_s = _percentiles(self._latencies)
        second = Second(
            self.folded_at - self.begins,
            length_s,
            self._now_answered,
            self._now_failed,
            p50_s,
            p99_s,
            under_way,
            (usage.cpu_s - self._usage.cpu_s) / length_s,
            (usage.in_line_s - self._usage.in_line_s) / length_s,
        )
        self.seconds.append(second)
        self.latency.add(self._latencies)
        self.service.add(self._services)
        self.lateness.add(self._delays)
        self._latencies, self._services, self._delays = [], [], []
        self._now_failed = self._now_answered = 0
        self.folded_at, self._usage = now, usage
        return second


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 0.0
    p50, p99 = np.percentile(values, (50.0, 99.0), method="inverted_cdf").tolist()
    return p50, p99
