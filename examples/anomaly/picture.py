"""Draw scored readings, lines of JSON on standard input, as SVG: what was told, what is an anomaly.

python -m examples.anomaly.picture < scored.ndjson > docs/anomaly.svg
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from examples.anomaly.readings import PUMPS

WIDTH, STRIP, GAP, LEFT, TOP = 860, 92, 34, 70, 46
SERIES = (("temperature", "°C", "#0b7a75"), ("vibration", "mm/s", "#5b6c8f"))
MARK = "#d1603d"
_FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"'


def picture(scored: Iterable[dict[str, Any]]) -> str:
    """An SVG with a strip for each pump and series; anomalies are marked below and on the line.

    `scored` are results with the fields of their readings (`--emit merged`).
    """
    rows = sorted(scored, key=lambda one: one["at"])
    begin, seconds = rows[0]["at"], max(rows[-1]["at"] - rows[0]["at"], 1)
    strips, top = [], TOP
    for pump in PUMPS:
        own = [row for row in rows if row["pump"] == pump]
        for name, unit, colour in SERIES:
            places = [LEFT + (row["at"] - begin) / seconds * (WIDTH - LEFT - 12) for row in own]
            strips += _strip(f"{pump}: {name}, {unit}", own, name, places, (top, colour))
            top += STRIP + GAP
    legend = _text(LEFT, 22, f"{len(rows):,} readings; those in orange were called anomalies", 15)
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    paper = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    body = "\n".join((paper, legend, *strips))
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


def _strip(
    title: str,
    rows: Sequence[dict[str, Any]],
    name: str,
    places: Sequence[float],
    look: tuple[int, str],
) -> list[str]:
    top, colour = look
    values = [row[name] for row in rows]
    low, high = min(values), max(values)
    heights = [top + STRIP * (1 - (value - low) / ((high - low) or 1)) for value in values]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True))
    drawn = [
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 12}" height="{STRIP}" fill="#f6f6f3"/>',
        _text(LEFT, top - 6, title, 12),
        _text(LEFT - 8, top + 10, f"{high:.1f}", 11, "end"),
        _text(LEFT - 8, top + STRIP, f"{low:.1f}", 11, "end"),
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1"/>',
    ]
    for row, x, y in zip(rows, places, heights, strict=True):
        if row["prediction"] == -1:
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{MARK}"/>')
            tick = f'x="{x:.1f}" y="{top + STRIP + 3}" width="1.2" height="6"'
            drawn.append(f'<rect {tick} fill="{MARK}"/>')
    return drawn


def _text(x: float, y: float, words: str, size: int, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="#222" {_FONT}>{words}</text>'


if __name__ == "__main__":
    print(picture(map(json.loads, sys.stdin)), end="")
