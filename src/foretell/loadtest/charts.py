"""A chart is lines over one axis, as SVG that takes its colours from the page around it.

Rules:

1. Every series has a class `s0`, `s1`, …, and the page says what colour that is, light and dark.
2. Places without a value (NaN) break the line; a point that stands alone is a dot.
3. A scale's ends are round numbers; a logarithmic one has a step for 1, 2 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 12, 40
_STEPS = (1, 2, 5)

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Series:
    """A line, and which colour it has. `dashed` tells it from another of the same colour."""

    name: str
    points: Points
    colour: int
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale: where it begins and ends, its ticks, and what a value is on it between 0 and 1."""

    label: str
    ticks: Sequence[tuple[float, str]]
    place: Callable[[float], float]


def linear(label: str, values: Sequence[float], *, tight: bool = False) -> Axis:
    """From 0 to a round number above all values; from 0 to the greatest one when it is `tight`."""
    most = max((value for value in values if math.isfinite(value)), default=0.0) or 1.0
    step = _up(most / 4)
    count = math.ceil(most / step - 1e-9)
    end = most if tight else step * count
    told = [step * number for number in range(count + 1)]
    ticks = [(at, _spoken(at)) for at in told if at <= end * 1.001]
    return Axis(label, ticks, lambda value: value / end)


def logarithmic(label: str, values: Sequence[float]) -> Axis:
    """Around all values that are greater than 0; ticks are 1, 2 and 5, or powers of 10."""
    good = [value for value in values if value > 0] or [1.0]
    low, high = _down(min(good)), _up(max(good))
    if high <= low:
        high = _up(low * 1.01)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = _STEPS if math.log10(high / low) < 2.5 else (1,)
    told = [step * 10.0**decade for decade in decades for step in steps]
    ticks = [(at, _spoken(at)) for at in told if low * 0.999 <= at <= high * 1.001]
    length = math.log10(high / low)
    return Axis(label, ticks, lambda value: math.log10(max(value, low) / low) / length)


def percentiles(label: str, most: float) -> Axis:
    """Each nine takes as much room as the one before it: 0, 90, 99, 99.9 … up to `most` of them."""
    nines = max(2, math.ceil(most))
    told = [0.0, 50.0, *(100.0 - 100.0 / 10**count for count in range(1, nines + 1))]
    ticks = [(at, f"{at:.10g}") for at in told]
    return Axis(label, ticks, lambda value: min(nines_of(value), nines) / nines)


def nines_of(percentile: float) -> float:
    """1 for 90, 2 for 99, and so on; 100 is beyond all of them."""
    return math.inf if percentile >= 100 else -math.log10(1 - percentile / 100)


def drawn(title: str, series: Sequence[Series], across: Axis, up: Axis) -> str:
    """The whole chart, with its title and legend."""
    lines = [_line(one, across, up) for one in series]
    legend = "".join(
        f'<span><i class="k{one.colour}{" dashed" if one.dashed else ""}"></i>'
        f"{escape(one.name)}</span>"
        for one in series
    )
    shown = f'<p class="legend">{legend}</p>' if len(series) > 1 else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{shown}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{_grid(across, up)}{''.join(lines)}</svg></figure>"
    )


def _grid(across: Axis, up: Axis) -> str:
    parts = []
    for value, word in up.ticks:
        y = _y(up.place(value))
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{word}</text>'
        )
    bottom = HEIGHT - _BOTTOM
    for value, word in across.ticks:
        x = _x(across.place(value))
        parts.append(
            f'<line class="tick" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}"/>'
            f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{word}</text>'
        )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
        f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(across.label)}</text>"
    )
    return "".join(parts)


def _line(one: Series, across: Axis, up: Axis) -> str:
    kind = f"s{one.colour}{' dashed' if one.dashed else ''}"
    points = [(x, y) for x, y in one.points if math.isfinite(y)]
    placed = [(_x(across.place(x)), _y(up.place(y))) for x, y in points]
    parts = []
    for is_there, run in groupby(one.points, lambda point: math.isfinite(point[1])):
        pairs = [(_x(across.place(x)), _y(up.place(y))) for x, y in run] if is_there else []
        if len(pairs) == 1:
            ((x, y),) = pairs
            parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="3"/>')
        elif pairs:
            path = " ".join(f"{x},{y}" for x, y in pairs)
            parts.append(f'<polyline class="{kind}" points="{path}"/>')
    name, where, what = escape(one.name), escape(across.label), escape(up.label)
    parts += [
        f'<circle class="spot" cx="{x}" cy="{y}" r="6"><title>{name}: {_spoken(value)} {what} at '
        f"{_spoken(at)} ({where})</title></circle>"
        for (x, y), (at, value) in zip(placed, points, strict=True)
    ]
    return "".join(parts)


def _x(share: float) -> float:
    return round(_LEFT + min(max(share, 0.0), 1.0) * (WIDTH - _LEFT - _RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - _TOP - _BOTTOM), 1)


def _spoken(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in _STEPS if step * power >= value * 0.999), 10 * power)


def _down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in _STEPS if step * power <= value * 1.001)
