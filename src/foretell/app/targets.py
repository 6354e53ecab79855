"""A target is what a person names on the command line: a repository, a package, a model file."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from foretell import packing
from foretell.engine.repository import Package, find, is_package
from foretell.errors import BadPackage


def packages_of(targets: Iterable[str | Path], *, cache_dir: Path) -> list[Package]:
    """The packages that `targets` name; raw model files are packed into `cache_dir` first.

    Raises BadPackage.
    """
    found: list[Package] = []
    for target in targets:
        path = Path(target)
        if not path.exists():
            raise BadPackage(f"there is no {target}; name a repository, a package or a model file")
        root = path if path.is_dir() else packed(path, cache_dir=cache_dir)
        found += find(root)
    return found


def packed(model: Path, *, cache_dir: Path) -> Path:
    """The package of a raw model file, made once for each content of the file.

    Its version is `0+` and the first digits of the file's SHA-256.
    """
    try:
        if not model.is_file():
            raise BadPackage(f"{model} is not a regular file")
        with model.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadPackage(f"{model} cannot be read: {error}") from error
    version = f"0+{digest[:12]}"
    repository = cache_dir / digest
    made = _made(repository, version)
    if made is None:
        try:
            return packing.pack([model], version=version, repository=repository)
        except BadPackage:
            # Another server may have packed the same file meanwhile.
            made = _made(repository, version)
            if made is None:
                raise
    return made


def _made(repository: Path, version: str) -> Path | None:
    folders = repository.glob(f"*/{version}")
    return next((folder for folder in folders if is_package(folder)), None)
