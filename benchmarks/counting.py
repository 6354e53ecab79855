"""Counting: what the metrics of a request cost, on against off.

Rules:

1. Both servers run in turn, under the same loads; what differs is `--no-metrics`. Differences are
   taken within a round, because the machine changes from one to the next, and their median counts.
2. The hooks alone are what is told of a batch and of its replies, with nothing else around it: a
   difference of two servers can't tell a microsecond from noise, this can.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from benchmarks.budgets import Verdict, at_most
from benchmarks.harness import Measurement, run_rounds
from benchmarks.scenarios import boosted, one_row_both_ways
from benchmarks.sections import Effort, Section
from benchmarks.servers import repository, serve
from foretell import Settings
from foretell.engine.hooks import BatchBegan, BatchEnded
from foretell.telemetry.metrics import Metrics

MOST = at_most(4, "µs")
ON, OFF = "on", "off"
BATCHES = (1, 32)
COLUMNS = ("load", "off, CPU µs/request", "on, CPU µs/request", "difference, µs", "others, %")
_CALLS, _TRIES = 20_000, 5
_TEXT = (
    "The gradient boosting model, one row a request, with `--metrics` (the default) and with "
    "`--no-metrics`: CPU per request, and the median of the rounds' differences. A difference "
    "below zero is noise. The hooks alone are `benchmarks/counting.py` telling telemetry of "
    "batches of one request and of 32, with their replies: the best of {tries} times {calls:,}."
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What counting costs under one load, in CPU microseconds a request."""

    load: str
    off_us: float | None
    on_us: float | None
    difference_us: float
    others_percent: float | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        told = (self.off_us, self.on_us, self.difference_us)
        shown = ["" if number is None else f"{number:,.2f}" for number in told]
        others = "" if self.others_percent is None else f"{self.others_percent:.0f}"
        return (self.load, *shown, others)


def counting(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("counting")
    site = boosted(folder)
    models = repository(site)
    servers = [
        replace(serve(models, "--metrics"), name=ON),
        replace(serve(models, "--no-metrics"), name=OFF),
    ]
    found = run_rounds(
        servers,
        [
            replace(load, name=f"{load.name}, {load.protocol}")
            for load in one_row_both_ways(site, effort.connections, effort.seconds)
        ],
        rounds=effort.rounds if effort.quick else 2 * effort.rounds,
        warm_up_s=1 if effort.quick else 2,
        logs=folder,
        tell=effort.tell,
    )
    costs = [*differences(found), *(hooks_alone(requests) for requests in BATCHES)]
    return Section(
        "Metrics",
        _TEXT.format(tries=_TRIES, calls=_CALLS),
        COLUMNS,
        [cost.cells for cost in costs],
        [
            Verdict(f"metrics on against off, {cost.load}: CPU a request", MOST, cost.difference_us)
            for cost in costs
        ],
        labels=1,
        others=[one.others_percent for one in found],
        data=[asdict(cost) for cost in costs],
    )


def differences(found: Sequence[Measurement]) -> list[Cost]:
    """The costs of each load, from the measurements of all rounds in their order."""
    costs = []
    for load in dict.fromkeys(one.load for one in found):
        on, off = (
            [one for one in found if (one.server, one.load) == (name, load)] for name in (ON, OFF)
        )
        costs.append(
            Cost(
                load,
                statistics.median(one.cpu_us for one in off),
                statistics.median(one.cpu_us for one in on),
                statistics.median(a.cpu_us - b.cpu_us for a, b in zip(on, off, strict=True)),
                max(one.others_percent for one in (*on, *off)),
            )
        )
    return costs


def hooks_alone(requests: int) -> Cost:
    """What telling of batches of so many `requests` and of their replies takes."""
    buckets = Settings().latency_buckets_s
    metrics = Metrics([("churn", "1.0.0")], buckets, in_service=lambda _: True, release="")
    listener = metrics.listener(lambda: False)
    version, replied = listener.version("churn", "1.0.0"), listener.door("rest")
    times = [0.0003 * n for n in range(1, requests + 1)]
    best = float("inf")
    for _ in range(_TRIES):
        before = time.process_time()
        for _ in range(_CALLS // requests):
            version.began(BatchBegan(requests, [*times]))
            version.ended(BatchEnded(requests, [*times], []))
            for _ in times:
                replied(200)
        best = min(best, (time.process_time() - before) / (_CALLS // requests * requests))
    return Cost(f"the hooks alone, batches of {requests}", None, None, best * 1e6)
