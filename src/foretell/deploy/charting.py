"""A chart is what Kubernetes' objects are made of: templates, values, and a schema of the values.

It is a Helm chart, for those who have Helm. Here the same templates are rendered without it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.deploy.templating import Templates
from foretell.deploy.values import Values, check, merged, parsed
from foretell.errors import BadSettings, StoreFailed

FOLDER = Path(__file__).with_name("chart")
_WRITTEN = "# Written by `foretell k8s render`; render it again rather than change it.\n"


@dataclass(frozen=True, slots=True)
class Release:
    """A chart that is rendered under a name, with values over its own."""

    name: str
    values: Values


def defaults() -> str:
    """The chart's own values, as text with its comments."""
    return (FOLDER / "values.yaml").read_text(encoding="utf-8")


def release(name: str, layers: Iterable[Mapping[str, Any]]) -> Release:
    """The release of that name; later layers win. Raises BadSettings, MissingExtra."""
    values = merged([parsed(defaults(), "values.yaml"), *layers])
    check(values, json.loads((FOLDER / "values.schema.json").read_text(encoding="utf-8")))
    return Release(name, values)


def render(made: Release) -> dict[str, str]:
    """The text of each file that has objects in it, by name. Raises BadSettings, MissingExtra."""
    chart = parsed((FOLDER / "Chart.yaml").read_text(encoding="utf-8"), "Chart.yaml")
    told = {
        "Values": made.values,
        "Release": {"Name": made.name},
        "Chart": {key[0].upper() + key[1:]: value for key, value in chart.items()},
    }
    folder = FOLDER / "templates"
    parts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.tpl"))]
    templates = Templates(parts, {"rules.yaml": (FOLDER / "rules.yaml").read_text("utf-8")})
    rendered = {}
    for path in sorted(folder.glob("*.yaml")):
        text = templates.render(path.read_text(encoding="utf-8"), told).strip()
        text = text.removeprefix("---").strip()
        if text:
            rendered[path.name] = text + "\n"
    return rendered


def joined(files: Mapping[str, str]) -> str:
    """All files as one stream of documents."""
    return "---\n".join(files[name] for name in sorted(files))


def write(files: Mapping[str, str], folder: Path) -> None:
    """Make `folder` hold these files, and none that an older rendering left.

    Raises BadSettings when it holds anything else, and StoreFailed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = list(folder.iterdir())
        for path in before:
            if not path.is_file() or not path.read_bytes().startswith(_WRITTEN.encode()):
                raise BadSettings(f"{folder} holds other things; name another one with --output")
        for path in before:
            path.unlink()
        for name, text in files.items():
            (folder / name).write_text(_WRITTEN + text, encoding="utf-8")
    except OSError as error:
        raise StoreFailed(f"{folder} cannot be written: {error}") from error


def copy(folder: Path) -> None:
    """Write the chart itself to a new folder. Raises BadSettings, StoreFailed."""
    if folder.exists():
        raise BadSettings(f"{folder} is there already; name a new folder with --output")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(FOLDER, folder)
    except OSError as error:
        raise StoreFailed(f"{folder} cannot be written: {error}") from error
