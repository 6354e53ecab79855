"""What the rules, the dashboard and the runbook ask Prometheus."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from deploy.grafana.__main__ import FILE

from tests.deploy.daemons import ROOT, RULES

RUNBOOK = ROOT / "docs" / "runbook.md"
_CHOSEN = {"$job": ".*", "$model": ".*", "$__rate_interval": "10s"}


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that draw something."""
    drawn = json.loads(FILE.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in drawn if panel["type"] != "row"]


def of_the_dashboard() -> dict[str, str]:
    """The query of each panel's targets, with everything chosen, by title and letter."""
    told = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }
    for name, value in _CHOSEN.items():
        told = {key: expr.replace(name, value) for key, expr in told.items()}
    return told


def of_the_runbook() -> list[str]:
    """Each line of its blocks of PromQL."""
    blocks = re.findall(
        r"^```promql\n(.*?)^```", RUNBOOK.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [line for block in blocks for line in block.splitlines()]


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def of_the_rules() -> list[str]:
    return [rule["expr"] for rule in _rules()]


def recorded() -> list[str]:
    """The names of all that the rules record."""
    return [rule["record"] for rule in _rules() if "record" in rule]
