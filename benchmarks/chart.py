"""The chart: CPU per request as bars on a logarithmic scale, load by load, written as SVG."""

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.harness import Measurement

COLOURS = {"floor": "#8c8c8c", "foretell": "#0b7a75", "usual recipe": "#d1603d"}
PAPER = "#ffffff"
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 74, 16, 76, 44
BAR, GAP = 44, 6
_SANS = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"'


def _text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="#222" {_SANS}>{escape(words)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, fill: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{fill}"/>'


def spoken(number: float) -> str:
    """The number over a bar: three digits, or all before the point."""
    return f"{number:.1f}" if number < 100 else f"{number:,.0f}"


def decades(numbers: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that enclose `numbers`, at least one decade apart."""
    low = math.floor(math.log10(min(numbers)))
    high = math.ceil(math.log10(max(numbers)))
    # A bar that starts at its own value would be invisible.
    low -= math.isclose(10**low, min(numbers), rel_tol=0.2)
    return low, max(high, low + 1)


def cpu_chart(middle: Sequence[Measurement]) -> str:
    """An SVG document of the CPU per request in `middle`: one measurement a server and load."""
    low, high = decades([one.cpu_us for one in middle])
    floor_y = HEIGHT - BOTTOM

    def height(number: float) -> float:
        return (math.log10(number) - low) / (high - low) * (floor_y - TOP)

    def parts() -> Iterator[str]:
        size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
        yield "<title>CPU microseconds per request</title>"
        yield _rectangle(0, 0, WIDTH, HEIGHT, PAPER)
        title = "CPU per request of one row, in microseconds (logarithmic; less is better)"
        yield _text(LEFT, 24, title, size=15, anchor="start")
        for power in range(low, high + 1):
            y = floor_y - height(10.0**power)
            yield _rectangle(LEFT, y, WIDTH - LEFT - RIGHT, 1, "#dddddd")
            yield _text(LEFT - 8, y + 4, f"{10.0**power:,g} µs", size=12, anchor="end")
        servers = [name for name in COLOURS if any(one.server == name for one in middle)]
        for place, name in enumerate(servers):
            left = LEFT + place * 130
            yield _rectangle(left, 40, 12, 12, COLOURS[name])
            yield _text(left + 18, 51, name, anchor="start")
        loads = list(dict.fromkeys(one.load for one in middle))
        stride = (WIDTH - LEFT - RIGHT) / len(loads)
        for number, load in enumerate(loads):
            centre = LEFT + stride * (number + 0.5)
            yield _text(centre, floor_y + 24, load.partition(", ")[2] or load)
            x = centre - (len(servers) * (BAR + GAP) - GAP) / 2
            for name in servers:
                for one in (m for m in middle if (m.load, m.server) == (load, name)):
                    tall = height(one.cpu_us)
                    yield _rectangle(x, floor_y - tall, BAR, tall, COLOURS[name])
                    # White behind the number: a line of the scale may be there.
                    yield _rectangle(x, floor_y - tall - 16, BAR, 15, PAPER)
                    yield _text(x + BAR / 2, floor_y - tall - 5, spoken(one.cpu_us), size=12)
                x += BAR + GAP
        yield "</svg>"

    return "\n".join(parts()) + "\n"
