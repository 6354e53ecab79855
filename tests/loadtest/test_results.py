"""Figures and sentences of a run, its report for programs, and its page."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.loadtest.histogram import Histogram
from foretell.loadtest.recording import Recording, Second
from foretell.loadtest.report import Report
from foretell.loadtest.results import Result
from foretell.loadtest.running import Outcome, Plan
from foretell.loadtest.sending.links import Call
from tests.loadtest.stub import payload


@settings(deadline=None)
@given(st.lists(st.integers(1, 3_600_000_000), min_size=1, max_size=50))
def test_values_go_into_the_buckets_that_hdrh_puts_them_in(values: list[int]) -> None:
    ours, theirs = Histogram(), HdrHistogram(1, 3_600_000_000, 3)
    ours.add(np.array(values) / 1e6)
    for value in values:
        theirs.record_value(value)
    for at in (0.0, 50.0, 99.0, 100.0):
        told = theirs.get_value_at_percentile(at) / 1e6
        assert ours.percentile_s(at) == pytest.approx(min(told, max(values) / 1e6))
    decoded = HdrHistogram.decode(ours.encoded())
    assert decoded.total_count == len(values)


def second(at: float, **told: float) -> Second:
    plain = {
        "length_s": 1.0,
        "answered": 100,
        "failed": 0,
        "p50_s": 0.001,
        "p99_s": 0.002,
        "under_way": 1,
        "cpu": 0.2,
        "in_line": 0.0,
    }
    return Second(at, **{**plain, **told})  # type: ignore[arg-type]  # counts are whole


def result(
    rate: float | None = 100.0,
    *,
    latencies: tuple[float, ...] = (0.002,) * 200,
    delays: tuple[float, ...] = (0.0001,),
    errors: int = 0,
    **told: float,
) -> Result:
    recording = Recording(0.0, 2.0)
    recording.latency.add(latencies)
    recording.service.add(latencies)
    recording.lateness.add(delays)
    recording.answered = recording.in_time = len(latencies)
    for _ in range(errors):
        recording.failure(Call(1.0, 1.0), "503 <SERVICE> UNAVAILABLE", waited=False)
    recording.seconds += [second(0.0, **told), second(1.0, **told)]
    outcome = Outcome(recording, 200 + errors, 0, 0, 4, None, 2)
    plan = Plan(rate=rate, concurrency=8, duration_s=2.0, warmup_s=0.0, timeout_s=1.0)
    return Result(payload(), plan, outcome)


def test_a_run_in_order_speaks_of_the_server() -> None:
    assert result().limits == []
    assert result().verdict == "the server kept up with 100 requests/s."
    assert "kept up with 105 requests/s, but 4.76% of them failed." in (
        result(rate=105.0, errors=10).verdict
    )
    assert "did not keep up: 100 answers/s of 150" in result(rate=150.0).verdict
    assert "answered 100 requests/s with 8 requests" in result(rate=None).verdict


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"cpu": 0.95}, "it used 95% of a core"),
        ({"cpu": 0.5, "in_line": 0.45}, "waited for one for 45% of the time"),
        ({"cpu": 0.1, "in_line": 0.3}, "waited for one for 30% of the time"),
        ({"delays": (0.0001,) * 20 + (0.02,)}, "left 20.0 ms late or more"),
    ],
)
def test_a_generator_at_its_limit_speaks_of_itself_only(told: dict[str, float], words: str) -> None:
    one = result(rate=150.0, **told)  # type: ignore[arg-type]  # of several kinds
    assert words in one.verdict
    assert "the server did not" not in one.verdict


def test_being_late_by_little_of_what_is_measured_is_no_limit() -> None:
    assert result(latencies=(0.5,) * 200, delays=(0.02,)).limits == []


def test_thresholds_are_held_against_figures() -> None:
    one = result(errors=10)
    assert one.refusals(None, 0.05) == []
    assert one.refusals(1.0, 0.01) == [
        "rest: p99 is 2.0 ms, over 1 ms",
        "rest: 4.76% of the requests failed, over 1.00%",
    ]
    assert result(latencies=()).error_ratio == 1.0


def report(*results: Result) -> Report:
    return Report("http://<h>", "m&m", None, "2026-01-01T00:00:00+00:00", "g", results)


@pytest.mark.parametrize("results", [1, 3])
@pytest.mark.parametrize("rate", [100.0, None])
def test_the_page_is_whole_and_loads_nothing(results: int, rate: float | None) -> None:
    page = report(*[result(rate, errors=3)] * results).html()
    assert not re.search(r"(src|href|url\(|@import|<script|https?://(?!&lt;h&gt;))", page)
    assert "m&amp;m at http://&lt;h&gt;" in page
    assert "503 &lt;SERVICE&gt; UNAVAILABLE" in page
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        tree = ET.fromstring(drawing)
        assert "NaN" not in drawing
        width, height = map(float, tree.attrib["viewBox"].split()[2:])
        for line in tree.iter("polyline"):
            points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_a_run_without_answers_has_a_page_and_figures_too() -> None:
    nothing = result(latencies=(), errors=5, p50_s=0.0, p99_s=0.0, answered=0, failed=5)
    assert "<svg" in report(nothing).html()
    assert report(nothing).describe()["results"][0]["latency_ms"]["p99"] == 0


def test_a_second_without_answers_breaks_the_line() -> None:
    one = result(p50_s=0.001)
    one.outcome.recording.seconds[1:1] = [second(0.5, answered=0, p50_s=0.0, p99_s=0.0)]
    page = report(one).html()
    p50 = page[page.index('aria-label="p50') : page.index('aria-label="p99')]
    assert "<polyline" not in p50
    assert p50.count('r="3"') == 2
