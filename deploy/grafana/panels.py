"""What the dashboard draws: a row of panels for each of the suspects of docs/runbook.md.

Queries keep to what `$job` and `$model` choose, and to Grafana's `$__rate_interval`.
"""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.models import units

WIDTH = 24  # of a page, in Grafana's units
_BAD = "error|overloaded|deadline_exceeded"
_ALL = 'job=~"$job"'
_MODEL = 'job=~"$job", model=~"$model"'
_BY_VERSION = "model, model_version"


@dataclass(frozen=True)
class Query:
    """PromQL, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture: what it tells, its unit, its queries; stacked when the series add up."""

    title: str
    tells: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "lines"
    width: int = WIDTH // 3
    most: float | None = None


def rate(metric: str, by: str, labels: str = _MODEL) -> str:
    """What a counter grows by, each second."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def percentiles(metric: str, by: str) -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return tuple(
        Query(f"histogram_quantile({part}, {rate(f'{metric}_bucket', f'{by}, le')})", name)
        for part, name in ((0.5, f"p50 {legend}"), (0.99, f"p99 {legend}"))
    )


_CALLS = f'{_MODEL}, status!="cancelled"'
_FAILED = rate("prediction_total", "job", f'{_MODEL}, status=~"{_BAD}"')
PROMISES = (
    Panel(
        "Calls a second",
        "Calls that reached a model",
        units.RequestsPerSecond,
        (Query(rate("prediction_total", "job", _CALLS), "{{job}}"),),
        "stat",
        WIDTH // 6,
    ),
    Panel(
        "Failed",
        "The part of them that failed their callers",
        units.PercentUnit,
        (Query(f"{_FAILED} / {rate('prediction_total', 'job', _CALLS)}", "{{job}}"),),
        "stat",
        WIDTH // 6,
    ),
    Panel(
        "Latency, p99",
        "From submission to answer",
        units.Seconds,
        (
            Query(
                f"histogram_quantile(0.99, {rate('prediction_latency_seconds_bucket', 'job, le')})",
                "{{job}}",
            ),
        ),
        "stat",
        WIDTH // 6,
    ),
    Panel(
        "Servers that answer",
        "Targets of Prometheus that are up, of all",
        units.PercentUnit,
        (
            Query(
                "sum by (job) (up) / count by (job) (up) "
                f"and on (job) count by (job) (foretell_build_info{{{_ALL}}})",
                "{{job}}",
            ),
        ),
        "stat",
        WIDTH // 6,
    ),
    Panel(
        "Models that are ready",
        "Versions in that state",
        units.Short,
        (Query(f'sum by (job) (foretell_model_state{{{_MODEL}, state="ready"}})', "{{job}}"),),
        "stat",
        WIDTH // 6,
    ),
    Panel(
        "Versions of Foretell",
        "More than one while a release is rolled out",
        units.Short,
        (
            Query(
                f"count by (version, python_version) (foretell_build_info{{{_ALL}}})",
                "{{version}}, Python {{python_version}}",
            ),
        ),
        "stat",
        WIDTH // 6,
    ),
    Panel(
        "How fast the error budget burns",
        "1 spends it in just 30 days; pages come at 14.4 over an hour and at 6 over six",
        units.Short,
        tuple(
            Query(
                f"job_model:prediction_failures:ratio_rate{window}{{{_MODEL}}} "
                "/ scalar(foretell:error_budget:ratio)",
                f"{{{{model}}}}, {window}",
            )
            for window in ("5m", "1h", "6h", "3d")
        ),
        width=WIDTH // 2,
    ),
    Panel(
        "How fast the latency budget burns",
        "The same, of answers that took longer than promised",
        units.Short,
        tuple(
            Query(
                f"job_model:prediction_late:ratio_rate{window}{{{_MODEL}}} "
                "/ scalar(foretell:latency_budget:ratio)",
                f"{{{{model}}}}, {window}",
            )
            for window in ("5m", "1h", "6h", "3d")
        ),
        width=WIDTH // 2,
    ),
)
MODEL = (
    Panel(
        "Calls by version",
        "Of each version, whatever came of them",
        units.RequestsPerSecond,
        (Query(rate("prediction_total", _BY_VERSION), "{{model}} {{model_version}}"),),
        "stack",
    ),
    Panel(
        "What failed, by version",
        "error: the model did; overloaded, deadline_exceeded: the server was late",
        units.RequestsPerSecond,
        (
            Query(
                rate("prediction_total", f"{_BY_VERSION}, status", f'{_MODEL}, status!="success"'),
                "{{model}} {{model_version}} {{status}}",
            ),
        ),
        "stack",
    ),
    Panel(
        "Latency by version",
        "From submission to answer, of the calls that were answered",
        units.Seconds,
        percentiles("prediction_latency_seconds", _BY_VERSION),
    ),
    Panel(
        "Latency, all of it",
        "How many calls took how long",
        units.Seconds,
        (Query(rate("prediction_latency_seconds_bucket", "le"), "{{le}}"),),
        "heatmap",
        WIDTH // 2,
    ),
    Panel(
        "Loading",
        "Seconds that the last load of a version took",
        units.Seconds,
        (
            Query(
                f"max by (instance, {_BY_VERSION}) (model_load_time_seconds{{{_MODEL}}})",
                "{{instance}} {{model}} {{model_version}}",
            ),
        ),
        width=WIDTH // 4,
    ),
    Panel(
        "Not ready",
        "Versions that a server has and does not serve",
        units.Short,
        (
            Query(
                f"sum by (instance, {_BY_VERSION}) "
                f'(foretell_model_state{{{_MODEL}, state!="ready"}})',
                "{{instance}} {{model}} {{model_version}}",
            ),
        ),
        width=WIDTH // 4,
    ),
)
DATA = (
    Panel(
        "Refused as invalid",
        "Requests whose values the signature does not take",
        units.RequestsPerSecond,
        (
            Query(
                rate(
                    "foretell_requests_total",
                    "door, code",
                    f'{_ALL}, code=~"400|413|INVALID_ARGUMENT"',
                ),
                "{{door}} {{code}}",
            ),
        ),
        "stack",
    ),
    Panel(
        "The part that is invalid",
        "Of each door's requests, over five minutes",
        units.PercentUnit,
        (Query(f"job_door:foretell_requests_invalid:ratio_rate5m{{{_ALL}}}", "{{job}} {{door}}"),),
        most=1,
    ),
    Panel(
        "Rows of a batch",
        "On average, of the batches that ran",
        units.Short,
        (
            Query(
                f"{rate('foretell_batch_rows_sum', _BY_VERSION)} "
                f"/ {rate('foretell_batch_rows_count', _BY_VERSION)}",
                "{{model}} {{model_version}}",
            ),
        ),
    ),
)
SERVER = (
    Panel(
        "Rows that wait",
        "In front of each model; the limit is max_queue_rows",
        units.Short,
        (
            Query(
                f"sum by (instance, model) (foretell_queue_rows{{{_MODEL}}})",
                "{{instance}} {{model}}",
            ),
        ),
    ),
    Panel(
        "How long requests wait",
        "Before their batch begins",
        units.Seconds,
        percentiles("foretell_queue_wait_seconds", "model"),
    ),
    Panel(
        "Rows that run",
        "At this moment",
        units.Short,
        (
            Query(
                f"sum by (instance, model) (foretell_rows_in_flight{{{_MODEL}}})",
                "{{instance}} {{model}}",
            ),
        ),
    ),
    Panel(
        "Shed",
        "The part of the calls that found a full queue",
        units.PercentUnit,
        (Query(f"job_model:prediction_shed:ratio_rate5m{{{_MODEL}}}", "{{job}} {{model}}"),),
        most=1,
    ),
    Panel(
        "Workers",
        "That serve now",
        units.Short,
        (Query(f"foretell_workers{{{_ALL}}}", "{{instance}}"),),
    ),
    Panel(
        "Workers that were replaced",
        "died: by themselves; reload: by SIGHUP",
        units.Short,
        (
            Query(
                "sum by (instance, reason) "
                f"(increase(foretell_worker_restarts_total{{{_ALL}}}[$__rate_interval]))",
                "{{instance}} {{reason}}",
            ),
        ),
        "stack",
    ),
    Panel(
        "CPU",
        "Cores that a server and its workers use",
        units.Short,
        (Query(rate("process_cpu_seconds_total", "instance", _ALL), "{{instance}}"),),
    ),
    Panel(
        "Memory",
        "Resident, of a server and its workers",
        units.BytesIEC,
        (Query(f"process_resident_memory_bytes{{{_ALL}}}", "{{instance}}"),),
    ),
    Panel(
        "Open files and connections",
        "Of a server and its workers",
        units.Short,
        (Query(f"process_open_fds{{{_ALL}}}", "{{instance}}"),),
    ),
)
CLIENT = (
    Panel(
        "Requests by door and code",
        "Whatever came of them",
        units.RequestsPerSecond,
        (Query(rate("foretell_requests_total", "door, code", _ALL), "{{door}} {{code}}"),),
        "stack",
        WIDTH // 2,
    ),
    Panel(
        "Calls that were given up",
        "Their clients cancelled them, or left",
        units.RequestsPerSecond,
        (Query(rate("prediction_total", "model", f'{_MODEL}, status="cancelled"'), "{{model}}"),),
        "stack",
        WIDTH // 2,
    ),
)
ROWS = {
    "What was promised": PROMISES,
    "Is it the model?": MODEL,
    "Is it the data?": DATA,
    "Is it the server?": SERVER,
    "Is it the client?": CLIENT,
}
