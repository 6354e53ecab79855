"""The metrics: what is counted comes out under its name, and nothing else ever does."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from foretell.engine.hooks import BatchBegan, BatchEnded, Dropped, VersionLoaded
from foretell.telemetry.board import OWN
from foretell.telemetry.layout import BATCH_ROWS, CACHE_RESULTS, Layout
from foretell.telemetry.metrics import Metrics

BOUNDS = (0.001, 0.01, 0.1)
VERSIONS = [("churn", "1.0.0"), ("churn", "2.0.0"), ("plans", "1.0.0")]
MONITORING = Path(__file__).parents[2] / "docs" / "monitoring.md"
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def metrics_of(
    versions: Sequence[tuple[str, str]] = VERSIONS, bounds: tuple[float, ...] = BOUNDS
) -> Metrics:
    return Metrics(
        versions,
        bounds,
        in_service=lambda model: model != "plans",
        release="9.9",
        cached=["churn"],
    )


def series(metrics: Metrics) -> Series:
    told = metrics.render("")[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(told)
        for sample in family.samples
    }


def of_churn(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset({"model": "churn", "model_version": "1.0.0", **labels}.items())


texts = st.text("ab1.", min_size=1, max_size=3)
seconds = st.lists(st.floats(0, 1, allow_subnormal=False) | st.sampled_from(BOUNDS), max_size=20)


@given(
    versions=st.lists(st.tuples(texts, texts), max_size=8),
    bounds=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20, unique=True).map(sorted),
)
def test_no_two_numbers_share_a_cell(versions: list[tuple[str, str]], bounds: list[float]) -> None:
    layout = Layout(versions, tuple(bounds))
    taken = list(range(OWN))
    for door in layout.doors.values():
        taken += range(door.first, door.first + len(door.names))
    for cells in layout.versions.values():
        taken += range(cells.calls, cells.calls + 5)
        for buckets in (cells.latency, cells.wait, cells.batch_rows):
            taken += range(buckets.first, buckets.first + len(buckets.bounds) + 2)
        taken += range(cells.cached, cells.cached + len(CACHE_RESULTS))
        taken += (cells.saved_s, cells.evicted, cells.rejected, cells.unwritten)
        taken += (cells.waiting, cells.running, cells.load_s, cells.loaded_at)
        taken += (cells.cache_entries, cells.cache_bytes)
    assert taken == list(range(layout.width))


@settings(deadline=None)
@given(answered=seconds, failed=seconds, waited=seconds, rows=st.lists(st.integers(1, 10**6)))
def test_histograms_are_those_of_the_reference(
    answered: list[float], failed: list[float], waited: list[float], rows: list[int]
) -> None:
    metrics = metrics_of()
    version = metrics.listener(lambda: False).version("churn", "1.0.0")
    for n_rows in rows:
        version.began(BatchBegan(n_rows, []))
        version.ended(BatchEnded(n_rows, [], []))
    version.began(BatchBegan(1, waited))
    version.ended(BatchEnded(1, answered, failed))
    told = series(metrics)
    for name, bounds, values in (
        ("prediction_latency_seconds", BOUNDS, answered + failed),
        ("foretell_queue_wait_seconds", BOUNDS, waited),
        ("foretell_batch_rows", BATCH_ROWS, [*rows, 1]),
    ):
        registry = CollectorRegistry()
        labels = ("model", "model_version")
        reference = Histogram(name, name, labels, buckets=bounds, registry=registry)
        child = reference.labels("churn", "1.0.0")
        for value in values:
            child.observe(value)
        for sample in (sample for family in registry.collect() for sample in family.samples):
            if not sample.name.endswith("_created"):
                ours = told[sample.name, frozenset(sample.labels.items())]
                assert ours == pytest.approx(sample.value, abs=1e-12), sample
    assert told[of_churn("prediction_total", status="success")] == len(answered)
    assert told[of_churn("prediction_total", status="error")] == len(failed)


def test_gauges_tell_of_now() -> None:
    metrics = metrics_of()
    listener = metrics.listener(lambda: False)
    listener.loaded(VersionLoaded("churn", "1.0.0", 1.5))
    version = listener.version("churn", "1.0.0")
    version.waiting(9)
    version.began(BatchBegan(5, [0.0]))
    version.dropped(Dropped.CANCELLED)
    told = series(metrics)
    assert told[of_churn("foretell_queue_rows")] == 9
    assert told[of_churn("foretell_rows_in_flight")] == 5
    assert told[of_churn("model_load_time_seconds")] == 1.5
    assert told[of_churn("prediction_total", status="cancelled")] == 1
    assert told["foretell_workers", frozenset()] == 1
    listener.closed()
    told = series(metrics)
    assert told[of_churn("foretell_queue_rows")] == told[of_churn("foretell_rows_in_flight")] == 0
    assert told["foretell_workers", frozenset()] == 0
    assert of_churn("model_load_time_seconds") not in told


def test_a_model_out_of_service_is_in_the_other_state() -> None:
    told = series(metrics_of())
    states = {
        (dict(labels)["model"], dict(labels)["state"]): value
        for (name, labels), value in told.items()
        if name == "foretell_model_state"
    }
    assert states == {
        ("churn", "ready"): 1,
        ("churn", "unloaded"): 0,
        ("plans", "ready"): 0,
        ("plans", "unloaded"): 1,
    }


@pytest.mark.slow
@settings(deadline=None)
@given(codes=st.lists(st.integers(-10, 1000) | st.sampled_from([200, 404, 503])))
def test_no_code_makes_more_series_than_protocols_have_codes(codes: list[int]) -> None:
    metrics = metrics_of()
    listener = metrics.listener(lambda: False)
    before = set(series(metrics))
    for door in ("rest", "grpc"):
        replied = listener.door(door)
        for code in codes:
            replied(code)
    new = [dict(labels) for _, labels in set(series(metrics)) - before]
    assert all(100 <= int(one["code"]) <= 599 for one in new if one["door"] == "rest")
    assert len(new) == len({c for c in codes if 100 <= c <= 599} - {200}) + len(
        {c for c in codes if 0 < c <= 16}
    )


def test_nobody_listens_to_a_version_that_is_not_served() -> None:
    with pytest.raises(KeyError):
        metrics_of().listener(lambda: False).version("nobody", "1.0.0")


def test_odd_names_stay_what_they_are() -> None:
    odd = ('a"b\\c', "1.0\n+é")
    told = series(metrics_of([odd]))
    labels = frozenset({"model": odd[0], "model_version": odd[1], "status": "success"}.items())
    assert told["prediction_total", labels] == 0


def test_openmetrics_is_told_to_whoever_asks_for_it() -> None:
    metrics = metrics_of()
    body, kind = metrics.render(OPEN)
    assert kind.startswith("application/openmetrics-text")
    told = open_families(body.decode())  # type: ignore[no-untyped-call] # it has no types
    assert {family.name for family in told} >= {"prediction", "prediction_latency_seconds"}


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/plain;version=x", "application/openmetrics-text;version=y", ";,="]
)
def test_everybody_else_gets_plain_text(accept: str) -> None:
    body, kind = metrics_of().render(accept)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert list(families(body.decode()))


def rows_of(page: str) -> Iterator[tuple[str, str, str]]:
    for line in page.splitlines():
        if line.startswith("| `") and line.count("|") == 5:
            name, kind, labels, _ = (cell.strip() for cell in line.strip("|").split("|"))
            yield name.strip("`"), kind, labels


def test_the_page_tells_of_every_metric_its_type_and_its_labels() -> None:
    metrics = metrics_of()
    metrics.listener(lambda: False).loaded(VersionLoaded("churn", "1.0.0", 1.0))
    told: dict[str, tuple[str, str]] = {}
    for family in families(metrics.render("")[0].decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels: dict[str, Any] = {}
        for sample in family.samples:
            labels |= dict.fromkeys(sample.labels)
        told[name] = (family.type, ", ".join(f"`{label}`" for label in labels if label != "le"))
    page = {name: (kind, labels) for name, kind, labels in rows_of(MONITORING.read_text("utf-8"))}
    assert {name: (kind, sorted(labels.split(", "))) for name, (kind, labels) in page.items()} == {
        name: (kind, sorted(labels.split(", "))) for name, (kind, labels) in told.items()
    }
