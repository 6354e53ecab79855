"""The rules are right by promtool, each alert is tried and told of, and they ask what is served."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.daemons import ROOT, RULES, command

TESTS = [RULES.with_name("rules_test.yaml"), RULES.with_name("budgets_test.yaml")]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    """Every alert of the rules."""
    groups = read(RULES)["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def trials(name: str) -> list[bool]:
    """Of each time that the tests of the rules look at an alert: whether it had to be there."""
    cases = [case for path in TESTS for case in read(path)["tests"]]
    looks = [look for case in cases for look in case.get("alert_rule_test", [])]
    return [bool(look["exp_alerts"]) for look in looks if look["alertname"] == name]


def sections() -> dict[str, str]:
    """The runbook's sections by their anchors."""
    parts = re.split(r"^## (.+)$", RUNBOOK, flags=re.MULTILINE)[1:]
    return dict(zip((name.lower() for name in parts[::2]), parts[1::2], strict=True))


@pytest.mark.slow
def test_promtool_finds_the_rules_right() -> None:
    ended = subprocess.run(
        [command("promtool"), "check", "rules", RULES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_the_rules_say_what_they_should_of_known_counts(path: Path) -> None:
    ended = subprocess.run(
        [command("promtool"), "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
class TestAlert:
    def test_is_tried_where_it_comes_and_where_it_does_not(self, alert: dict[str, Any]) -> None:
        assert set(trials(alert["alert"])) == {True, False}

    def test_has_its_section_in_the_runbook(self, alert: dict[str, Any]) -> None:
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert (ROOT / page).is_file()
        assert anchor == alert["alert"].lower()
        section = sections()[anchor]
        for part in ("**Symptom.**", "**Look at.**", "```promql", "**Do.**"):
            assert part in section, part

    def test_says_who_must_act_when(self, alert: dict[str, Any]) -> None:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]


def test_what_is_recorded_is_of_the_time_that_its_name_says() -> None:
    found = 0
    for rule in read(RULES)["groups"][0]["rules"]:
        if told := re.search(r"_(?:rate|increase)(\d+\w)$", rule.get("record", "")):
            assert set(re.findall(r"\[(\w+)\]", rule["expr"])) == {told.group(1)}, rule["record"]
            found += 1
    assert found > 14


def test_the_runbook_tells_of_no_alert_that_is_gone() -> None:
    told = {name for name in sections() if name.startswith("foretell")}
    assert told == {alert["alert"].lower() for alert in alerts()}
    for anchor in re.findall(r"\]\(#(\w+)\)", RUNBOOK):
        assert anchor in sections(), anchor
