"""A build context is the folder that an image is built from: Dockerfile, lock, models.

It is written aside and renamed into place, whole or not at all. A folder that holds anything else
is left alone.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from foretell.core.manifest import FILENAME
from foretell.deploy.image import Image, Model
from foretell.errors import BadSettings, MissingExtra, StoreFailed

CYCLONEDX = "7.5.0"
"""The cyclonedx-bom that writes the list of what an image holds; it does not go into it."""

_TEMPLATES = Path(__file__).with_name("templates")
_WRITTEN = "# Written by `foretell image`"
_PROBE = (
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=3); "
    "c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"
)


def dockerfile(image: Image) -> str:
    """The text of the image's Dockerfile. Raises MissingExtra."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("install foretell[deploy] to make images: jinja2 is missing") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 - a Dockerfile is no HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return environment.get_template("Dockerfile.j2").render(
        image=image, python=python, probe=_PROBE, cyclonedx=CYCLONEDX
    )


def dockerignore(image: Image) -> str:
    """What goes to the builder, and nothing besides."""
    named = ["requirements.txt"]
    named += [image.wheel.name] if image.wheel else []
    named += [] if image.mounted else ["models"]
    return "*\n" + "".join(f"!{name}\n" for name in named)


def write(image: Image, folder: Path) -> None:
    """Make `folder` the context of `image`, in the place of an older one. Raises BadSettings."""
    texts = {
        "Dockerfile": dockerfile(image),
        "requirements.txt": image.requirements,
        ".dockerignore": dockerignore(image),
    }
    _check_ours(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".image-", dir=folder.parent) as aside:
            made = Path(aside, "context")
            made.mkdir()
            for name, text in texts.items():
                (made / name).write_text(text, encoding="utf-8")
            if image.wheel is not None:
                _copy(image.wheel, made / image.wheel.name)
            if not image.mounted:
                for model in image.models:
                    _copy_model(model, made / "models" / model.place)
            for place in [made, *(path for path in made.rglob("*") if path.is_dir())]:
                place.chmod(0o755)
            if folder.exists():
                folder.rename(Path(aside, "before"))
            made.rename(folder)
    except OSError as error:
        raise StoreFailed(f"{folder} cannot be written: {error}") from error


def _check_ours(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        ours = (folder / "Dockerfile").read_text(encoding="utf-8").startswith(_WRITTEN)
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise BadSettings(f"{folder} holds other things; name another folder with --output")


def _copy_model(model: Model, target: Path) -> None:
    for path in (FILENAME, *(artifact.path for artifact in model.manifest.files)):
        _copy(model.folder / path, target / path)


def _copy(source: Path, target: Path) -> None:
    """The bytes alone: whatever may read them here, the image's user may."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)
