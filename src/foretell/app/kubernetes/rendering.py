"""From a target and what was chosen to Kubernetes' objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foretell.app.settings import Settings
from foretell.app.targets import packages_of
from foretell.deploy import charting
from foretell.deploy import values as chosen_values
from foretell.deploy.image import Image, Model
from foretell.engine.repository import verify
from foretell.errors import BadSettings

defaults = charting.defaults
stream = charting.joined
written = charting.write
copied = charting.copy

_OTHER = "foretell"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?")


def rendered(
    target: str | None, name: str | None, files: Iterable[Path], settings: Iterable[str]
) -> dict[str, str]:
    """The text of each file of objects. Raises BadPackage, BadSettings, MissingExtra."""
    models = [] if target is None else _models(target)
    layers = [
        _told(models),
        *(chosen_values.read(path) for path in files),
        *(chosen_values.chosen(setting) for setting in settings),
    ]
    return charting.render(charting.release(_named(models, name), layers))


def _models(target: str) -> list[Model]:
    found = []
    for package in packages_of([target], cache_dir=Settings.read().cache_dir):
        verify(package)
        found.append(Model.of(package.folder, package.manifest))
    return found


def _told(models: list[Model]) -> Mapping[str, Any]:
    """The values that packages themselves tell: their digests, and the image `foretell image` made.

    Several have no image of a name that is known.
    """
    told: dict[str, Any] = {}
    if models:
        told["models"] = {"packages": {model.place: model.digest for model in models}}
    tag = Image(tuple(models), {}).tag
    if tag is not None:
        repository, _, version = tag.rpartition(":")
        told["image"] = {"repository": repository, "tag": version}
    return told


def _named(models: list[Model], name: str | None) -> str:
    if name is not None:
        if not _NAME.fullmatch(name):
            raise BadSettings(
                f"{name!r} is no name for a release; take up to 53 of a-z, 0-9 and -, as in churn"
            )
        return name
    names = {model.manifest.name for model in models}
    told = re.sub(r"[^a-z0-9]+", "-", names.pop().lower()).strip("-") if len(names) == 1 else _OTHER
    return told if _NAME.fullmatch(told) else _OTHER
