"""A result is what a run says of the server, and how far the generator can vouch for it.

Rules:

1. A generator that used a core nearly up, that waited for one for a fifth of the time, or that sent
   much later than it meant to, was the limit: its figures are its own then, and nothing is said of
   what the server can do.
2. A server that was asked in an open loop and answered less than it was asked has reached its
   limit, unless the generator has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from typing import Any

from foretell.loadtest.histogram import PERCENTILES, Histogram
from foretell.loadtest.payloads import Payload
from foretell.loadtest.recording import Second
from foretell.loadtest.running import Outcome, Plan

BUSY_CORES = 0.9
IN_LINE = 0.2
LATE_S = 0.001
LATE_SHARE = 0.1
KEPT_UP = 0.98


@dataclass(frozen=True, slots=True)
class Result:
    """One protocol's run: what was sent, what came back, and when."""

    payload: Payload
    plan: Plan
    outcome: Outcome

    @property
    def protocol(self) -> str:
        return self.payload.protocol.value

    @property
    def latency(self) -> Histogram:
        """From when requests were meant to be sent."""
        return self.outcome.recording.latency

    @property
    def service(self) -> Histogram:
        """From when they were sent."""
        return self.outcome.recording.service

    @property
    def seconds(self) -> list[Second]:
        return self.outcome.recording.seconds

    @property
    def asked(self) -> int:
        """Requests that were meant to be sent while it was measured."""
        recording = self.outcome.recording
        return recording.answered + recording.failed + self.outcome.unsent

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.outcome.recording.in_time / self.plan.duration_s

    @property
    def error_ratio(self) -> float:
        """The share of requests that got no right answer; 1 when there were no requests."""
        failed = self.outcome.recording.failed + self.outcome.unsent
        return failed / self.asked if self.asked else 1.0

    @property
    def reply_bytes(self) -> float:
        """An answer's body, on average."""
        recording = self.outcome.recording
        return recording.reply_bytes / recording.answered if recording.answered else 0.0

    @property
    def cpu(self) -> float:
        """The generator's own, in cores, while it was measured."""
        return self._mean([second.cpu for second in self._inside])

    @property
    def in_line(self) -> float:
        """The share of the time that the generator waited for a core."""
        return self._mean([second.in_line for second in self._inside])

    @property
    def _inside(self) -> list[Second]:
        """The seconds that are measured: without those in which the last answers are waited for."""
        return [second for second in self.seconds if second.at < self.plan.duration_s - 0.01]

    def _mean(self, values: list[float]) -> float:
        lengths = [second.length_s for second in self._inside]
        return sum(map(mul, values, lengths)) / sum(lengths) if lengths else 0.0

    @property
    def lateness_s(self) -> float:
        """How late 99 of 100 requests left that a connection was free for."""
        return self.outcome.recording.lateness.percentile_s(99.0)

    @property
    def limits(self) -> list[str]:
        """Why the generator was the limit; nothing when it was not."""
        told = []
        if self.cpu + self.in_line >= BUSY_CORES or self.in_line >= IN_LINE:
            waited = f", and waited for one for {self.in_line:.0%} of the time"
            told.append(f"it used {self.cpu:.0%} of a core{waited if self.in_line > 0.05 else ''}")
        bound_s = max(LATE_S, LATE_SHARE * self.latency.percentile_s(99.0))
        if self.plan.rate is not None and self.lateness_s > bound_s:
            told.append(
                f"one request in a hundred left {1000 * self.lateness_s:.1f} ms late or more, "
                "though a connection was free"
            )
        return told

    @property
    def verdict(self) -> str:
        """What the run says of the server, in a sentence."""
        if self.limits:
            return (
                f"the load generator was the limit ({'; '.join(self.limits)}): these figures say "
                "how fast it was, not what the server can do. Lower --rate or --concurrency, "
                "give it a core of its own, or take several generators."
            )
        plan, rate = self.plan, self.plan.rate
        if rate is None:
            under_way = "request" if plan.concurrency == 1 else "requests"
            return (
                f"the server answered {self.throughput:,.0f} requests/s with {plan.concurrency} "
                f"{under_way} under way."
            )
        recording = self.outcome.recording
        refused = recording.failed - recording.unanswered
        if recording.in_time + refused >= KEPT_UP * rate * plan.duration_s:
            but = f", but {self.error_ratio:.2%} of them failed" if self.error_ratio else ""
            return f"the server kept up with {rate:,.0f} requests/s{but}."
        full = (
            f" Up to {plan.concurrency} requests were under way (--concurrency)."
            if self.outcome.waited
            else ""
        )
        return (
            f"the server did not keep up: {self.throughput:,.0f} answers/s of {rate:,.0f} "
            f"requests/s.{full}"
        )

    def refusals(self, max_p99_ms: float | None, max_error_ratio: float) -> list[str]:
        """Which thresholds it broke, in words."""
        told = []
        p99_ms = 1000 * self.latency.percentile_s(99.0)
        if max_p99_ms is not None and p99_ms > max_p99_ms:
            told.append(f"{self.protocol}: p99 is {p99_ms:,.1f} ms, over {max_p99_ms:g} ms")
        if self.error_ratio > max_error_ratio:
            told.append(
                f"{self.protocol}: {self.error_ratio:.2%} of the requests failed, over "
                f"{max_error_ratio:.2%}"
            )
        if self.outcome.unread is not None:
            told.append(f"{self.protocol}: {self.outcome.unread}")
        return told

    def describe(self) -> dict[str, Any]:
        """All of it as JSON-ready data; times in milliseconds."""
        recording, outcome = self.outcome.recording, self.outcome
        return {
            "protocol": self.protocol,
            "what": self.payload.what,
            "loop": "closed" if self.plan.rate is None else "open",
            "rate": self.plan.rate,
            "concurrency": self.plan.concurrency,
            "rows": self.payload.rows,
            "duration_s": self.plan.duration_s,
            "warmup_s": self.plan.warmup_s,
            "timeout_s": self.plan.timeout_s,
            "requests": self.asked,
            "answered": recording.answered,
            "failed": recording.failed,
            "unanswered": recording.unanswered,
            "unsent": outcome.unsent,
            "checked_in_full": outcome.checked,
            "error_ratio": self.error_ratio,
            "errors": dict(recording.errors.most_common()),
            "throughput": self.throughput,
            "rows_per_s": self.throughput * self.payload.rows,
            "request_bytes": self.payload.request_bytes,
            "reply_bytes": self.reply_bytes,
            "latency_ms": _described(self.latency),
            "service_ms": _described(self.service),
            "latency_hdr_us": self.latency.encoded(),
            "generator": {
                "cpu_cores": self.cpu,
                "waited_for_a_core": self.in_line,
                "lateness_p99_ms": 1000 * self.lateness_s,
                "was_the_limit": bool(self.limits),
                "connections": outcome.connections,
                "waited_for_a_connection": outcome.waited,
            },
            "verdict": self.verdict,
            "seconds": [
                {
                    "at_s": round(second.at, 3),
                    "answered": second.answered,
                    "failed": second.failed,
                    "p50_ms": 1000 * second.p50_s,
                    "p99_ms": 1000 * second.p99_s,
                    "under_way": second.under_way,
                    "generator_cpu_cores": second.cpu,
                }
                for second in self.seconds
            ],
        }


def _described(histogram: Histogram) -> dict[str, float]:
    told = {f"p{at:g}": 1000 * histogram.percentile_s(at) for at in PERCENTILES}
    return {"mean": 1000 * histogram.mean_s, **told, "max": 1000 * histogram.max_s}


def milliseconds(seconds: float) -> str:
    """Milliseconds with three digits."""
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def measures(plan: Plan) -> list[tuple[str, Callable[[Result], str]]]:
    """What is told of each result of `plan`, side by side: a name, and what makes the words."""
    told: list[tuple[str, Callable[[Result], str]]] = [
        ("answers/s", lambda one: f"{one.throughput:,.0f}"),
        ("rows/s", lambda one: f"{one.throughput * one.payload.rows:,.0f}"),
        *((f"p{at:g}", _percentile(at)) for at in PERCENTILES),
        ("max", lambda one: milliseconds(one.latency.max_s)),
        ("request bytes", lambda one: f"{one.payload.request_bytes:,.0f}"),
        ("reply bytes", lambda one: f"{one.reply_bytes:,.0f}"),
        ("requests", lambda one: f"{one.asked:,}"),
        ("failed", lambda one: f"{one.outcome.recording.failed:,}"),
        ("never sent", lambda one: f"{one.outcome.unsent:,}"),
        ("generator CPU", lambda one: f"{one.cpu:.0%} of a core"),
    ]
    if plan.rate is not None:
        told += [
            ("p99 from sending", lambda one: milliseconds(one.service.percentile_s(99.0))),
            ("generator late, p99", lambda one: milliseconds(one.lateness_s)),
        ]
    return told


def _percentile(percentile: float) -> Callable[[Result], str]:
    return lambda result: milliseconds(result.latency.percentile_s(percentile))
