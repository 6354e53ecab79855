"""What `foretell image` does: from packages to a build context, and to an image."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.app.settings import Settings
from foretell.app.targets import packages_of
from foretell.deploy import building, context
from foretell.deploy.image import BASE, Image, Model
from foretell.deploy.locking import lock
from foretell.engine.repository import verify
from foretell.errors import BadSettings


@dataclass(frozen=True, slots=True)
class ImageChoices:
    """How an image is made: where from, and what goes into it."""

    output: Path
    wheel: Path | None = None
    base: str | None = None
    extras: tuple[str, ...] = ()
    mount_models: bool = False


def written(target: str, choices: ImageChoices) -> Image:
    """The image of `target`, its context written. Raises BadPackage, BadSettings, MissingExtra."""
    models = []
    for package in packages_of([target], cache_dir=Settings.read().cache_dir):
        verify(package)
        models.append(Model.of(package.folder, package.manifest))
    image = Image(
        models=tuple(models),
        locked=lock(models, extras=choices.extras, wheel=choices.wheel),
        wheel=choices.wheel,
        base=choices.base or BASE,
        mounted=choices.mount_models,
    )
    context.write(image, choices.output)
    return image


def built(image: Image, folder: Path, tag: str | None, more: Sequence[str], *, quiet: bool) -> str:
    """Build the context in `folder`, and return the name of the builder.

    Raises StartFailed, and BadSettings when nothing gives the image a name.
    """
    named = tag or image.tag
    if named is None:
        raise BadSettings("an image of no single model has no name of its own; give one: -t NAME")
    builder = building.find()
    building.build(builder, folder, named, more=more, quiet=quiet)
    return builder.name


def describe(image: Image, folder: Path, tag: str | None, builder: str | None) -> dict[str, Any]:
    """The image as JSON-ready data; `builder` is what built it."""
    return {
        "context": str(folder),
        "tag": tag or image.tag,
        "builder": builder,
        "base": image.base,
        "mounted": image.mounted,
        "packages": [
            {
                "name": model.manifest.name,
                "version": model.manifest.version,
                "digest": model.digest,
            }
            for model in image.models
        ],
        "requirements": dict(sorted(image.locked.items())),
        "wheel": None if image.wheel is None else image.wheel.name,
    }


def spoken(image: Image, folder: Path, tag: str | None, builder: str | None) -> str:
    """What was done, and what is next, for people."""
    named = tag or image.tag or "NAME"
    if builder is not None:
        return f"wrote {folder} and built {named} with {builder}"
    command = shlex.join(["docker", "build", "-t", named, str(folder)])
    return f"wrote {folder}\nbuild it with: {command}"
