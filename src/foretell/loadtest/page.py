"""The page is a report for people: one HTML file, which loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import nan

from foretell.loadtest.charts import (
    Points,
    Series,
    drawn,
    linear,
    logarithmic,
    nines_of,
    percentiles,
)
from foretell.loadtest.histogram import Histogram
from foretell.loadtest.recording import Second
from foretell.loadtest.results import Result, measures

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1a1d21; --soft: #5b636e;
  --line: #dfe3e8; --warn: #fff4d6; --warn-ink: #6b4a00;
  --c0: #2368c4; --c1: #12805a; --c2: #b35900; --c3: #7a3fb5; --c4: #b3264a; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2126; --ink: #e8eaed;
  --soft: #a0a8b3; --line: #343a42; --warn: #3d3110; --warn-ink: #ffdf8a;
  --c0: #6aa6f5; --c1: #4cc38f; --c2: #f0a050; --c3: #bd92f0; --c4: #f27b97; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 32px 20px 48px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; }
h1 { font-size: 24px; line-height: 1.3; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 32px 0 12px; }
.about { color: var(--soft); margin: 4px 0 20px; }
section, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section { padding: 4px 20px; overflow-x: auto; width: fit-content; max-width: 100%;
  min-width: min(100%, 520px); }
.verdict { margin: 0 0 10px; padding: 10px 16px; border-radius: 10px; border: 1px solid var(--line);
  background: var(--card); }
.verdict.limited { background: var(--warn); color: var(--warn-ink); border-color: transparent; }
table { border-collapse: collapse; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 0 7px 24px; text-align: right; border-top: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; color: var(--soft);
  font-weight: 400; }
thead th { border-top: 0; }
.wide { white-space: normal; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 16px; }
figure { margin: 0; padding: 14px 16px 10px; }
figcaption { font-weight: 600; }
.legend { margin: 2px 0 0; color: var(--soft); font-size: 13px; display: flex; flex-wrap: wrap;
  gap: 2px 16px; }
.legend i { display: inline-block; width: 16px; border-top: 3px solid; margin-right: 6px;
  vertical-align: middle; }
.legend i.dashed { border-top-style: dashed; }
svg { width: 100%; height: auto; display: block; margin-top: 6px; }
svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .axis, svg .tick { stroke: var(--soft); }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg polyline.dashed { stroke-dasharray: 6 4; }
svg .spot { fill: transparent; }
.note { color: var(--soft); max-width: 80ch; }
"""
_COLOURS = "".join(
    f".s{at} {{ stroke: var(--c{at}); }} circle.s{at} {{ fill: var(--c{at}); }} "
    f".k{at} {{ color: var(--c{at}); }}\n"
    for at in range(5)
)
_NOTE = """Latency counts from the moment a request was due, so the time it waited for a stalled
server counts, too; "from sending" leaves that wait out, and is what a closed loop sees. Requests
without an answer at the end count with the time they had waited by then. Refused requests are
errors, and have no latency. Throughput is answers per second."""
_NOTE_CLOSED = """In a closed loop a request is sent when an answer has come: while the server
stalls, nothing is asked, and nothing is measured. Take --rate to see what callers would see who
do not wait for one another."""


def page_of(title: str, about: Sequence[str], results: Sequence[Result]) -> str:
    """The whole page; `about` is what is said below the title."""
    told = " · ".join(escape(part) for part in about)
    verdicts = "".join(
        f'<p class="verdict{" limited" if result.limits else ""}"><b>{result.protocol}</b>: '
        f"{escape(result.verdict)}</p>"
        for result in results
    )
    note = _NOTE_CLOSED if results[0].plan.rate is None else _NOTE
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Load test: {escape(title)}</title><style>{_STYLE}{_COLOURS}</style></head>"
        f'<body><main><h1>{escape(title)}</h1><p class="about">{told}</p>'
        f"{verdicts}<h2>In all</h2><section>{_table(results)}</section>"
        f'<h2>Latency by percentile, and by second</h2><div class="charts">{_charts(results)}</div>'
        f'{_errors(results)}<p class="note">{note}</p></main></body></html>\n'
    )


def _table(results: Sequence[Result]) -> str:
    rows = [*measures(results[0].plan), ("asked", lambda one: escape(one.payload.what))]
    head = "".join(f"<th>{result.protocol}</th>" for result in results)
    body = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{tell(result)}</td>' for result in results)}</tr>"
        for name, tell in rows
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _charts(results: Sequence[Result]) -> str:
    curves = [
        Series(result.protocol, _curve(result.latency), number)
        for number, result in enumerate(results)
    ]
    if len(results) == 1 and results[0].plan.rate is not None:
        curves = [
            Series("from when it was due", curves[0].points, 0),
            Series("from sending", _curve(results[0].service), 1, dashed=True),
        ]
    most = max((nines_of(x) for one in curves for x, _ in one.points), default=2.0)
    parts = [
        drawn(
            "Latency by percentile, ms",
            curves,
            percentiles("percentile", most),
            logarithmic("ms", [y for one in curves for _, y in one.points]),
        ),
        _by_second(results, "Answers a second", "answers/s", lambda s: s.answered / s.length_s),
        _by_second(results, "p50 by second, ms", "ms", lambda s: 1000 * s.p50_s),
        _by_second(results, "p99 by second, ms", "ms", lambda s: 1000 * s.p99_s),
        _by_second(results, "Requests under way", "under way", lambda s: s.under_way),
    ]
    if any(second.failed for result in results for second in result.seconds):
        parts.append(
            _by_second(
                results, "Failed requests a second", "failures/s", lambda s: s.failed / s.length_s
            )
        )
    return "".join(parts)


def _curve(histogram: Histogram) -> Points:
    """The percentiles in milliseconds; the slowest of all stands at the last one there can be."""
    count = histogram.count
    return [
        (min(at, 100.0 - 100.0 / (count + 1)), 1000 * seconds)
        for at, seconds in (histogram.curve() if count else ())
    ]


def _by_second(
    results: Sequence[Result], title: str, unit: str, tell: Callable[[Second], float]
) -> str:
    is_time = unit == "ms"
    series = [
        Series(
            result.protocol,
            [
                (second.at + second.length_s, tell(second) or (nan if is_time else 0.0))
                for second in result.seconds
                # but for the rest of a second in which the last answers came
                if second.length_s > 0.5 or second.at < result.plan.duration_s - 0.01
            ],
            number,
        )
        for number, result in enumerate(results)
    ]
    xs, ys = ([point[axis] for one in series for point in one.points] for axis in (0, 1))
    up = logarithmic("ms", ys) if is_time else linear(unit, ys)
    return drawn(title, series, linear("seconds since the warm-up", xs, tight=True), up)


def _errors(results: Sequence[Result]) -> str:
    rows = "".join(
        f"<tr><th>{result.protocol}</th><td>{count:,}</td>"
        f'<td class="wide">{escape(words)}</td></tr>'
        for result in results
        for words, count in result.outcome.recording.errors.most_common()
    )
    return f"<h2>What failed</h2><section><table>{rows}</table></section>" if rows else ""
