"""A repository is a folder of packages: `<repository>/<model>/<version>/model.json`.

Finding reads manifests only. Verifying reads every artifact and compares its digest, and
must come before anything of the package is loaded.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foretell.core.manifest import FILENAME, Manifest
from foretell.errors import BadPackage


@dataclass(frozen=True, slots=True)
class Package:
    """One package on disk: its folder, and what it says about itself."""

    folder: Path
    manifest: Manifest


def is_package(folder: Path) -> bool:
    """Whether `folder` holds a manifest."""
    return (folder / FILENAME).is_file()


def read(folder: Path) -> Package:
    """The package in `folder`, unverified. Raises BadPackage."""
    try:
        text = (folder / FILENAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPackage(f"{folder / FILENAME} cannot be read: {error}") from error
    try:
        return Package(folder, Manifest.from_text(text))
    except BadPackage as error:
        raise BadPackage(f"package {folder}: {error.message}") from error


def find(root: Path) -> list[Package]:
    """The packages of `root`: itself if it is one, else those of the repository it is.

    Raises BadPackage when there are none, or when a folder contradicts its manifest.
    """
    if not root.is_dir():
        raise BadPackage(f"{root} is not a folder")
    if is_package(root):
        return [read(root)]
    found = [read(folder) for folder in _package_folders(root)]
    for package in found:
        told = (package.manifest.name, package.manifest.version)
        placed = (package.folder.parent.name, package.folder.name)
        if told != placed:
            raise BadPackage(
                f"package {package.folder} says it is {' '.join(told)}; in a repository it must "
                f"lie in {told[0]}/{told[1]}"
            )
    if not found:
        raise BadPackage(
            f"{root} holds no packages (<model>/<version>/{FILENAME}); "
            f"make one with: foretell pack model.pkl --name NAME -o {root}"
        )
    return found


def _package_folders(root: Path) -> Iterator[Path]:
    for model in sorted(root.iterdir()):
        if model.is_dir() and not model.name.startswith("."):
            for version in sorted(model.iterdir()):
                # A name with a leading dot is a package being written.
                if not version.name.startswith(".") and is_package(version):
                    yield version


def verify(package: Package) -> None:
    """Compare every artifact with its recorded size and digest. Raises BadPackage."""
    for artifact in package.manifest.files:
        path = package.folder / artifact.path
        try:
            size = path.stat().st_size
            if not path.is_file():  # reading a pipe would never end
                raise BadPackage(f"package {package.folder}: {artifact.path} is no regular file")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadPackage(f"package {package.folder}: {error}") from error
        if (size, digest) != (artifact.size, artifact.sha256):
            raise BadPackage(
                f"package {package.folder}: {artifact.path} was altered after packing "
                f"(its SHA-256 is {digest[:12]}…, recorded is {artifact.sha256[:12]}…); "
                "restore it or pack the model again"
            )
