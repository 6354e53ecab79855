"""What the chart makes of each file of values in tests/deploy/values."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from foretell.deploy import charting, values

Object = dict[str, Any]
FOLDER = Path(__file__).with_name("values")
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def rendered(*layers: dict[str, Any], name: str = "churn") -> list[Object]:
    """The objects that `foretell k8s render` makes."""
    text = charting.joined(charting.render(charting.release(name, layers)))
    return [found for found in yaml.safe_load_all(text) if found]


@cache
def objects(stem: str) -> list[Object]:
    """Those of one file."""
    return rendered(values.read(FILES[stem]))


def of_kind(kind: str, found: list[Object]) -> Object:
    """The only object of that kind."""
    (one,) = (each for each in found if each["kind"] == kind)
    return one


def pods(found: list[Object]) -> Iterator[Object]:
    """The pod template of every object that makes pods."""
    for each in found:
        if each["kind"] == "Deployment":
            yield each["spec"]["template"]
        if each["kind"] == "CronJob":
            yield each["spec"]["jobTemplate"]["spec"]["template"]
