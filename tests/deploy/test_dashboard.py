"""The committed dashboard is what its code makes."""

from __future__ import annotations

import json

from deploy.grafana.__main__ import FILE, dashboard

from tests.deploy.expressions import panels


def test_the_committed_dashboard_is_what_the_code_makes() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text == dashboard(), "python -m deploy.grafana"


def test_panels_have_names_and_numbers_of_their_own_and_fill_their_rows() -> None:
    drawn = json.loads(dashboard())["panels"]
    for key in ("id", "title"):
        values = [panel[key] for panel in drawn]
        assert len(set(values)) == len(values) > 20
    taken: set[tuple[int, int]] = set()
    for panel in drawn:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height


def test_each_panel_asks_something_and_says_what_it_shows() -> None:
    for panel in panels():
        assert panel["targets"], panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
