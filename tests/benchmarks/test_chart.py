"""The chart is well-formed, shows every number, and its bars are as tall as their logarithms."""

from xml.etree import ElementTree as ET

import pytest
from benchmarks.chart import COLOURS, cpu_chart, decades
from benchmarks.harness import Measurement

SVG = "{http://www.w3.org/2000/svg}"


def measured(server: str, load: str, cpu_us: float) -> Measurement:
    return Measurement(server, load, cpu_us, 1.0, 1.0, 1.0, 1.0, 1.0)


MIDDLE = [
    measured("floor", "one row, 1 connection", 10),
    measured("usual recipe", "one row, 1 connection", 1000),
    measured("foretell", "one row, 1 connection", 100),
    measured("foretell", "one row, <32> & more", 52.25),
]


def bars(svg: str, server: str) -> list[ET.Element]:
    """The rectangles of one server, without the one in the legend."""
    found = ET.fromstring(svg).iter(f"{SVG}rect")
    return [one for one in found if one.get("fill") == COLOURS[server]][1:]


def test_ten_times_as_much_is_one_step_more() -> None:
    svg = cpu_chart(MIDDLE)
    floor, ours, usual = (
        float(bars(svg, name)[0].get("height", "0"))
        for name in ("floor", "foretell", "usual recipe")
    )
    assert floor > 0
    assert usual - ours == pytest.approx(ours - floor, abs=0.2)


def test_every_number_and_load_is_written_whatever_characters_it_has() -> None:
    texts = [one.text for one in ET.fromstring(cpu_chart(MIDDLE)).iter(f"{SVG}text")]
    for words in ("10.0", "1,000", "100", "52.2", "1 connection", "<32> & more", "usual recipe"):
        assert words in texts


def test_nothing_is_drawn_outside() -> None:
    root = ET.fromstring(cpu_chart(MIDDLE))
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for one in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(one.get(name, "nan")) for name in ("x", "y", "width", "height"))
        assert min(x, y, w, h) >= 0
        assert x + w <= width
        assert y + h <= height


def test_bars_of_servers_that_were_left_out_leave_no_legend() -> None:
    svg = cpu_chart([one for one in MIDDLE if one.server == "foretell"])
    assert "floor" not in svg
    assert "usual recipe" not in svg


@pytest.mark.parametrize(
    ("numbers", "expected"), [([7.3, 1800], (0, 4)), ([10, 1000], (0, 3)), ([50, 60], (1, 2))]
)
def test_the_scale_encloses_the_numbers(numbers: list[float], expected: tuple[int, int]) -> None:
    assert decades(numbers) == expected
