"""An exposition is what Prometheus reads: all numbers of a server's board, by their names.

docs/monitoring.md has the same names, and what they are good for.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from foretell.telemetry.board import ALIVE, LEFT_FOR_RELOAD, REPLACES_DEAD, Board, Sums
from foretell.telemetry.layout import CACHE_RESULTS, STATUSES, Buckets, Layout, VersionCells
from foretell.telemetry.processes import Processes

_VERSION = ("model", "model_version")
_STATES = ("ready", "unloaded")
_FIRST_CODES = {"200", "OK"}  # there from the start: what appears as 1 has no rate

Of = Callable[[VersionCells], Buckets]
At = Callable[[VersionCells], int]
Samples = Iterator[Metric]


class Exposition(Collector):
    """Reads `board`; `in_service` says of each model whether it is.

    `processes` are what the server's processes use, None where that is not known. `cached` are
    the models that have a result cache.
    """

    def __init__(
        self,
        board: Board,
        layout: Layout,
        *,
        in_service: Callable[[str], bool],
        processes: Callable[[], Processes | None],
        version: str,
        cached: Collection[str] = (),
    ) -> None:
        self._board = board
        self._layout = layout
        self._in_service = in_service
        self._processes = processes
        self._version = version
        self._cached = cached

    def collect(self) -> Samples:
        """Every family of samples, as of now."""
        sums = self._board.sums()
        yield from self._calls(sums.numbers)
        yield from self._batches(sums.numbers)
        if self._cached:
            yield from self._caches(sums.numbers)
        yield from self._models(sums)
        yield from self._server(sums.numbers)
        used = self._processes()
        if used is not None:
            yield from self._used(used)

    def _calls(self, numbers: Sequence[float]) -> Samples:
        calls = CounterMetricFamily(
            "prediction", "Calls that reached a version.", labels=[*_VERSION, "status"]
        )
        for version, cells in self._layout.versions.items():
            for place, status in enumerate(STATUSES, cells.calls):
                calls.add_metric([*version, status], numbers[place])
        yield calls
        yield self._histogram(
            "prediction_latency_seconds",
            "From submission to answer, of calls that the model answered or failed.",
            numbers,
            lambda cells: cells.latency,
        )
        requests = CounterMetricFamily(
            "foretell_requests", "Replies, by the code of their protocol.", labels=["door", "code"]
        )
        for name, door in self._layout.doors.items():
            for place, code in enumerate(door.names, door.first):
                if numbers[place] or code in _FIRST_CODES:
                    requests.add_metric([name, code], numbers[place])
        yield requests

    def _batches(self, numbers: Sequence[float]) -> Samples:
        yield self._histogram(
            "foretell_queue_wait_seconds",
            "For how long calls waited until their batch began.",
            numbers,
            lambda cells: cells.wait,
        )
        yield self._histogram(
            "foretell_batch_rows",
            "Rows of each batch that ran.",
            numbers,
            lambda cells: cells.batch_rows,
        )
        yield self._gauge(
            "foretell_queue_rows", "Rows that wait.", numbers, lambda cells: cells.waiting
        )
        yield self._gauge(
            "foretell_rows_in_flight", "Rows that run.", numbers, lambda cells: cells.running
        )

    def _caches(self, numbers: Sequence[float]) -> Samples:
        rows = CounterMetricFamily(
            "foretell_cache_rows", "Rows by what the cache did.", labels=[*_VERSION, "result"]
        )
        saved = CounterMetricFamily(
            "foretell_cache_saved_seconds", "What hits would have taken.", labels=_VERSION
        )
        evicted = CounterMetricFamily(
            "foretell_cache_evictions", "Rows that made room for others.", labels=_VERSION
        )
        rejected = CounterMetricFamily(
            "foretell_cache_rejected", "Values that were none of ours.", labels=_VERSION
        )
        unwritten = CounterMetricFamily(
            "foretell_cache_unwritten", "Rows that Redis did not take.", labels=_VERSION
        )
        entries = GaugeMetricFamily(
            "foretell_cache_entries", "Rows in the memory of all workers.", labels=_VERSION
        )
        held = GaugeMetricFamily("foretell_cache_bytes", "What they take.", labels=_VERSION)
        for version, cells in self._layout.versions.items():
            if version[0] not in self._cached:
                continue
            for place, result in enumerate(CACHE_RESULTS, cells.cached):
                rows.add_metric([*version, result], numbers[place])
            saved.add_metric(version, numbers[cells.saved_s])
            evicted.add_metric(version, numbers[cells.evicted])
            rejected.add_metric(version, numbers[cells.rejected])
            unwritten.add_metric(version, numbers[cells.unwritten])
            entries.add_metric(version, numbers[cells.cache_entries])
            held.add_metric(version, numbers[cells.cache_bytes])
        yield from (rows, saved, evicted, rejected, unwritten, entries, held)

    def _models(self, sums: Sums) -> Samples:
        took = GaugeMetricFamily(
            "model_load_time_seconds", "How long the last load took.", labels=_VERSION
        )
        state = GaugeMetricFamily(
            "foretell_model_state", "1 for the state it is in.", labels=[*_VERSION, "state"]
        )
        for (model, version), cells in self._layout.versions.items():
            loads = [(slot[cells.loaded_at], slot[cells.load_s]) for slot in sums.living]
            loaded_at, seconds = max(loads, default=(0.0, 0.0))
            if loaded_at:
                took.add_metric([model, version], seconds)
            on = self._in_service(model)
            for name, is_it in zip(_STATES, (on, not on), strict=True):
                state.add_metric([model, version, name], float(is_it))
        yield took
        yield state

    def _server(self, numbers: Sequence[float]) -> Samples:
        yield GaugeMetricFamily("foretell_workers", "Workers that serve.", numbers[ALIVE])
        restarts = CounterMetricFamily(
            "foretell_worker_restarts", "Workers that were replaced.", labels=["reason"]
        )
        restarts.add_metric(["died"], numbers[REPLACES_DEAD])
        restarts.add_metric(["reload"], numbers[LEFT_FOR_RELOAD])
        yield restarts
        build = GaugeMetricFamily(
            "foretell_build_info", "What runs here.", labels=["version", "python_version"]
        )
        build.add_metric([self._version, platform.python_version()], 1)
        yield build

    def _used(self, used: Processes) -> Samples:
        cpu_s = self._board.never_less(used.cpu_s)
        yield CounterMetricFamily("process_cpu_seconds", "CPU time of all processes.", cpu_s)
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Memory of all processes.", used.resident_bytes
        )
        yield GaugeMetricFamily("process_open_fds", "Open files of all processes.", used.open_files)
        yield GaugeMetricFamily(
            "process_start_time_seconds", "When the server was started.", used.started_at
        )

    def _gauge(self, name: str, about: str, numbers: Sequence[float], at: At) -> Metric:
        family = GaugeMetricFamily(name, about, labels=_VERSION)
        for version, cells in self._layout.versions.items():
            family.add_metric(version, numbers[at(cells)])
        return family

    def _histogram(self, name: str, about: str, numbers: Sequence[float], of: Of) -> Metric:
        family = HistogramMetricFamily(name, about, labels=_VERSION)
        for version, cells in self._layout.versions.items():
            buckets = of(cells)
            counts = accumulate(numbers[buckets.first : buckets.sum])
            told = (*map(floatToGoString, buckets.bounds), "+Inf")
            family.add_metric(version, list(zip(told, counts, strict=True)), numbers[buckets.sum])
        return family
