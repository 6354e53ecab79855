"""A source is one FILE of `foretell pack`: what format it has, which runtime reads it.

The first bytes decide, then the suffix. Formats by their makers' own descriptions: XGBoost's
JSON and UBJSON hold a `learner`, LightGBM's text starts with `tree`, skops is a zip with
`schema.json`; whatever else there is may be a pickle, and is inspected as one.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foretell.core.manifest import FILENAME, Artifact, Step
from foretell.errors import BadPackage

CODE = "code"
_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Source:
    """A model file, its format and the runtime that reads it."""

    path: Path
    format: str
    runtime: str


def recognise(path: Path) -> Source:
    """The source at `path`. Raises BadPackage for what is no readable file."""
    if path.is_dir():
        raise BadPackage(f"{path} is a folder, not a model file")
    try:
        _check_regular(path)
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise BadPackage(f"there is no file {path}") from error
    except OSError as error:
        raise BadPackage(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise BadPackage(f"{path.name} is empty")
    if path.suffix == ".onnx":
        return Source(path, "onnx", "onnx")
    if head.startswith(b"{") and (b'"learner"' in head or path.suffix == ".json"):
        return Source(path, "xgboost json", "xgboost")
    if head.startswith(b"{L") or path.suffix == ".ubj":
        return Source(path, "xgboost ubj", "xgboost")
    if head.startswith(b"tree\n") or path.suffix == ".txt":
        return Source(path, "lightgbm txt", "lightgbm")
    if head.startswith(b"PK\x03\x04"):
        return Source(path, _zip_format(path), "sklearn")
    if path.suffix == ".skops":
        raise BadPackage(f"{path.name} is not a skops file: it is no zip archive")
    return Source(path, "joblib" if b"joblib.numpy_pickle" in head else "pickle", "sklearn")


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise BadPackage(f"{path.name} is a damaged archive: {error}") from error
    if "schema.json" not in names:
        raise BadPackage(f"{path.name} is an archive of files, not a model; unpack it first")
    return "skops"


@dataclass(frozen=True, slots=True)
class Copied:
    """The files of a package in the making: its steps, and what was written for them."""

    steps: tuple[Step, ...]
    artifacts: tuple[Artifact, ...]
    formats: tuple[str, ...]


def copy_sources(files: Sequence[str | Path], folder: Path, python_path: Path) -> Copied:
    """Copy `files` into `folder` and say which steps they make.

    `module:Class` takes the files after it as its own. Raises BadPackage.
    """
    steps: list[Step] = []
    formats: list[str] = []
    written = _Writer(folder)
    for place, file in enumerate(files):
        named = python_class(file)
        if named is not None:
            steps.append(_copy_class(*named, files[place + 1 :], written, python_path))
            formats.append("python")
            break
        source = recognise(Path(file))
        steps.append(Step(source.runtime, (written.copy(source.path, source.path.name),)))
        formats.append(source.format)
    return Copied(tuple(steps), tuple(written.artifacts), tuple(formats))


class _Writer:
    """Copies files into a folder, digesting the very bytes it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifacts: list[Artifact] = []

    def copy(self, path: Path, name: str) -> str:
        """Copy `path` to `name` (another name, when that one is taken) and return the name."""
        taken = {artifact.path for artifact in self.artifacts} | {FILENAME}
        free = name if name not in taken else f"{len(taken)}-{name}"
        target = self.folder / free
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("rb") as source, target.open("xb") as copy:
                while block := source.read(1 << 20):
                    digest.update(block)
                    size += copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
        except OSError as error:
            raise BadPackage(f"{path} cannot be copied: {error.strerror}") from error
        self.artifacts.append(Artifact(free, digest.hexdigest(), size))
        return free


def python_class(file: str | Path) -> tuple[str, str] | None:
    """The module and class of `module:Class`, or None for a path."""
    module, colon, name = str(file).rpartition(":")
    parts = (*module.split("."), name)
    if colon and all(part.isidentifier() for part in parts) and not Path(file).exists():
        return module, name
    return None


def _copy_class(
    module: str,
    name: str,
    data: Sequence[str | Path],
    written: _Writer,
    python_path: Path,
) -> Step:
    root = module.partition(".")[0]
    file, package = python_path / f"{root}.py", python_path / root
    if file.is_file():
        code = [written.copy(file, f"{CODE}/{root}.py")]
    elif package.is_dir():
        code = [
            written.copy(path, f"{CODE}/{path.relative_to(python_path).as_posix()}")
            for path in sorted(package.rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        ]
    else:
        raise BadPackage(f"there is no module {root} in {python_path}; run this where {root}.py is")
    own = [written.copy(_existing(path), f"data/{Path(path).name}") for path in data]
    return Step("callable", (*code, *own), {"module": module, "class": name})


def _existing(path: str | Path) -> Path:
    try:
        _check_regular(Path(path))
    except FileNotFoundError as error:
        raise BadPackage(f"there is no file {path}") from error
    except OSError as error:
        raise BadPackage(f"{path} cannot be read: {error.strerror}") from error
    return Path(path)


def _check_regular(path: Path) -> None:
    """Raise BadPackage for a pipe, a device or a folder: opening one may wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadPackage(f"{path} is not a regular file")
