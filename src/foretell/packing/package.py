"""A package is written whole or not at all: made aside, proven, then renamed into place."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from foretell.core.batch import Batch
from foretell.core.manifest import FILENAME, Manifest, Step, check_name
from foretell.core.rolling.windows import Windows
from foretell.errors import BadPackage
from foretell.packing.compiling import compiled_package
from foretell.packing.inference import Inferred, infer
from foretell.packing.libraries import libraries_of
from foretell.packing.proof import fitting_rows, original_answers, prove
from foretell.packing.sample import batch_of, read_sample
from foretell.packing.sources import copy_sources, python_class
from foretell.runtimes import load
from foretell.runtimes.loading import open_stages
from foretell.runtimes.stages import Stage
from foretell.runtimes.tables import TableForm

_ASIDE = ".packing-"
_ABANDONED_S = 3600


def pack(  # noqa: PLR0913
    files: Sequence[str | Path],
    *,
    name: str | None = None,
    version: str = "1.0.0",
    sample: str | Path | None = None,
    repository: str | Path = "models",
    trust: bool = False,
    metadata: Mapping[str, Any] | None = None,
    windows: str | Path | Mapping[str, Any] | None = None,
    python_path: Path | None = None,
    compile: bool = True,  # noqa: A002  the flag is called --no-compile
) -> Path:
    """Make the package `<repository>/<name>/<version>/` of model `files` and return its folder.

    `windows` declares rolling features that streams fill in: a TOML or JSON file, or what it says.
    `files` are the steps in order, or `module:Class` (found in `python_path`, else in the
    working directory) with its data files. `name` defaults to the last file's. With `compile`
    the package holds a proven ONNX graph, when one is faster, and is served without the model's
    framework; its compile report says why, or why not. Raises BadPackage when a file is unsafe
    or unreadable, the version exists already, or the package does not answer as the model does;
    MissingExtra when a library is missing. Whatever is raised, nothing is left behind. What a
    model prints while it is packed goes to stderr.
    """
    _check_arguments(files, sample, metadata)
    name = check_name(name if name is not None else _usable_name(files), "model name")
    target = Path(repository) / name / check_name(version, "version")
    if target.exists():
        raise BadPackage(f"{target} already exists; choose another --version")
    rolling = None if windows is None else read_windows(windows)
    table = None if sample is None else read_sample(Path(sample))
    with _aside(Path(repository)) as folder, redirect_stdout(sys.stderr):
        copied = copy_sources(files, folder, python_path or Path.cwd())
        stages = open_stages(copied.steps, folder, trusted=trust, unproven=True)
        inferred = infer(stages, copied.steps, folder, table)
        draft = partial(
            Manifest,
            name=name,
            version=version,
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            files=copied.artifacts,
            libraries=libraries_of(copied.steps, stages),
            trusted=trust,
            metadata=dict(metadata or {}),
            windows=rolling,
        )
        manifest, rows = _proven(draft, inferred, copied.steps, stages, folder)
        if compile:
            manifest = compiled_package(manifest, rows, folder)
        _write(folder / FILENAME, manifest.to_text())
        _publish(folder, target)
    return target


def read_windows(told: str | Path | Mapping[str, Any]) -> Windows:
    """What a TOML or JSON file declares, or a mapping of the same. Raises BadPackage."""
    if isinstance(told, Mapping):
        return Windows.from_description(dict(told), "windows")
    path = Path(told)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise BadPackage(f"{path} cannot be read as windows: {error}") from error
    return Windows.from_description(found, str(path))


def _check_arguments(files: object, sample: object, metadata: object) -> None:
    """Raise BadPackage for what cannot be packed whatever the files hold."""
    if isinstance(files, str | Path) or not isinstance(files, Sequence):
        raise BadPackage(f"files are a list of paths like ['model.pkl'], not {files!r}")
    if not files:
        raise BadPackage("give at least one model file: foretell pack model.pkl")
    for file in files:
        if not isinstance(file, str | Path):
            raise BadPackage(f"a model file is a path, not a {type(file).__name__}: save it first")
    if not isinstance(sample, str | Path | None):
        raise BadPackage(
            f"the sample is the path of a CSV or Parquet file, not a {type(sample).__name__}"
        )
    if not isinstance(metadata, Mapping | None):
        raise BadPackage(f"metadata is an object, not a {type(metadata).__name__}")
    try:
        json.dumps(dict(metadata or {}), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadPackage(f"metadata has a value that JSON cannot hold: {error}") from error


def _proven(
    draft: Callable[..., Manifest],
    inferred: Iterable[Inferred],
    steps: tuple[Step, ...],
    stages: tuple[Stage, ...],
    folder: Path,
) -> tuple[Manifest, Batch]:
    """The manifest of the first signature under which the package answers as the model does.

    With it come the rows of the sample on which it does.
    """
    failed: BadPackage | None = None
    for found in inferred:
        for form in found.forms or (None,):
            manifest = draft(signature=found.signature, steps=_formed(steps, form))
            try:
                rows = fitting_rows(found.rows, found.signature)
                asked = (found.forms[-1] if found.forms else None, found.marker)
                expected = original_answers(stages, rows, found.signature, asked)
                servable = load(Manifest.from_text(manifest.to_text()), folder)
                nameless = form is not None and form.kind == "bare"
                prove(servable, rows, expected, nameless=nameless)
            except BadPackage as error:
                failed = error
            else:
                return manifest, batch_of(rows, found.signature.inputs)
    raise failed or BadPackage("no signature fits the model")


def _formed(steps: tuple[Step, ...], form: TableForm | None) -> tuple[Step, ...]:
    """`steps` with the table's form among the options of the first."""
    if form is None:
        return steps
    first = replace(steps[0], options={**steps[0].options, **form.describe()})
    rest = steps[1:]
    if form.kind == "bare":
        bare = {"table": "bare"}
        rest = tuple(
            replace(step, options=bare) if step.runtime == "sklearn" else step for step in rest
        )
    return (first, *rest)


def _usable_name(files: Sequence[str | Path]) -> str:
    """A model name made of the module of a class, or of the last file's stem."""
    modules = [named[0] for named in map(python_class, files) if named is not None]
    stem = modules[0] if modules else Path(files[-1]).name.partition(".")[0]
    kept = (part if part.isascii() and (part.isalnum() or part in "_+-") else "-" for part in stem)
    return "".join(kept).strip("-_+") or "model"


@contextmanager
def _aside(repository: Path) -> Iterator[Path]:
    """A folder inside `repository` whose name starts with a dot, gone unless it was renamed."""
    try:
        repository.mkdir(parents=True, exist_ok=True)
        _sweep(repository)
        folder = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=repository))
    except OSError as error:
        raise BadPackage(f"{repository} cannot be written to: {error.strerror}") from error
    try:
        yield folder
    except OSError as error:
        raise BadPackage(f"{repository} cannot be written to: {error}") from error
    finally:
        if folder.exists():
            shutil.rmtree(folder)


def _sweep(repository: Path) -> None:
    """Remove what packs that were killed left behind; one that is at work is younger."""
    for path in repository.glob(f"{_ASIDE}*"):
        # another pack may sweep as well, and another user's folder is not ours to remove
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path)


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _publish(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, both surviving a power cut whole or not at all."""
    folder.chmod(0o755)
    for inner in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        _sync(inner)
    target.parent.mkdir(exist_ok=True)
    try:
        folder.rename(target)
    except OSError as error:
        raise BadPackage(f"{target} already exists; choose another --version") from error
    _sync(target.parent)
    _sync(target.parent.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
