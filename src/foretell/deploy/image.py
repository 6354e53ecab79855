"""An image is what a container is made of: a base with Python, locked requirements, models.

Rules:

1. Every requirement has one exact version. Nothing else is installed.
2. A model is a package, at `/models/<name>/<version>`, or is mounted there when a container starts.
3. A package's digest is the SHA-256 of its `model.json`, which lists those of all its files.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foretell.core.manifest import FILENAME, Manifest
from foretell.errors import BadPackage, BadSettings

BASE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
"""The Python that the requirements are locked with."""


@dataclass(frozen=True, slots=True)
class Model:
    """One package that an image serves: where it lies, and what it says about itself."""

    folder: Path
    manifest: Manifest
    digest: str

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> Model:
        """The model of a package that was verified before. Raises BadPackage."""
        try:
            digest = hashlib.sha256((folder / FILENAME).read_bytes()).hexdigest()
        except OSError as error:
            raise BadPackage(f"{folder / FILENAME} cannot be read: {error}") from error
        return cls(folder, manifest, f"sha256:{digest}")

    @property
    def place(self) -> str:
        """Where it lies in a repository."""
        return f"{self.manifest.name}/{self.manifest.version}"


@dataclass(frozen=True, slots=True)
class Image:
    """What an image holds; with `mounted`, models only decide what is installed.

    `locked` maps distributions to versions; `wheel` is Foretell itself, where no index has it.
    """

    models: tuple[Model, ...]
    locked: Mapping[str, str]
    wheel: Path | None = None
    base: str = BASE
    mounted: bool = False

    def __post_init__(self) -> None:
        if not self.base or not self.base.isprintable() or set(self.base) & set(" \"'\\$"):
            raise BadSettings(f"the base image {self.base!r} is no name of an image")

    @property
    def requirements(self) -> str:
        """The locked versions, as pip reads them."""
        return "".join(f"{name}=={version}\n" for name, version in sorted(self.locked.items()))

    @property
    def labels(self) -> dict[str, str]:
        """What the image says about itself, besides its base: keys of OCI and our own."""
        told = {"org.opencontainers.image.title": "foretell"}
        if self.mounted:
            return told
        told["foretell.packages"] = " ".join(f"{m.place}@{m.digest}" for m in self.models)
        if len(self.models) == 1:
            manifest = self.models[0].manifest
            told["org.opencontainers.image.title"] = manifest.name
            told["org.opencontainers.image.version"] = manifest.version
            told["foretell.package.digest"] = self.models[0].digest
        return told

    @property
    def tag(self) -> str | None:
        """The name that one model gives its image; None when there are several, or none inside."""
        if self.mounted or len(self.models) != 1:
            return None
        manifest = self.models[0].manifest
        # Registries take no upper case in names, and no + in tags.
        name = manifest.name.lower().replace("+", "-").strip("._-")
        return f"{name}:{manifest.version.replace('+', '-')}"
