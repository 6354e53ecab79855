"""Writes dashboard.json, Grafana's dashboard of Foretell: `python -m deploy.grafana`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as option
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.panels import ROWS, Panel

FILE = Path(__file__).with_name("dashboard.json")
_SOURCE = model.DataSourceRef(type_val="prometheus", uid="$datasource")


def _lines(panel: Panel) -> Any:
    built = (
        timeseries.Panel()
        .fill_opacity(20 if panel.kind == "stack" else 0)
        .min(0)
        .tooltip(common.VizTooltipOptions().mode(option.TooltipDisplayMode.MULTI))
    )
    if panel.kind == "stack":
        built = built.stacking(common.StackingConfig().mode(option.StackingMode.NORMAL))
    return built if panel.most is None else built.max(panel.most)


def _picture(panel: Panel) -> Any:
    match panel.kind:
        case "stat":
            built: Any = (
                stat.Panel()
                .graph_mode(option.BigValueGraphMode.AREA)
                .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            )
        case "heatmap":
            built = (
                heatmap.Panel()
                .calculate(False)
                .show_tooltip()
                .y_axis(heatmap.YAxisConfig().unit(panel.unit))
            )
        case _:
            built = _lines(panel)
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
        if panel.kind == "heatmap":
            target = target.format(PromQueryFormat.HEATMAP)
        built = built.with_target(target.ref_id(chr(ord("A") + number)))
    height = 4 if panel.kind == "stat" else 8
    return (
        built.title(panel.title)
        .description(panel.tells)
        .unit(panel.unit)
        .datasource(_SOURCE)
        .span(panel.width)
        .height(height)
    )


def _variable(name: str, metric: str) -> Any:
    """A choice of the values that a label has."""
    return (
        board.QueryVariable(name)
        .datasource(_SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def dashboard() -> str:
    """The dashboard, as the text of its file."""
    built = (
        board.Dashboard("Foretell")
        .uid("foretell")
        .description("Is it the model, the data, the server or the client? See docs/runbook.md.")
        .tags(["foretell"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(board.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(_variable("job", "foretell_build_info"))
        .with_variable(_variable("model", "foretell_model_state"))
    )
    numbers = itertools.count(1)
    for title, panels in ROWS.items():
        built = built.with_row(board.Row(title).id(next(numbers)))
        for panel in panels:
            built = built.with_panel(_picture(panel).id(next(numbers)))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(dashboard(), encoding="utf-8")
