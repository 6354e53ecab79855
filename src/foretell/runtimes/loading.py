"""Loading makes a package's steps into one servable, each step by the runtime it names."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from foretell.core.manifest import Manifest, Step
from foretell.core.servable import Servable
from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes.stages import Chain, Stage, StageFiles

RUNTIMES: dict[str, str] = {
    "sklearn": "foretell.runtimes.estimators:open_stage",
    "onnx": "foretell.runtimes.onnx_files:open_stage",
    "xgboost": "foretell.runtimes.xgboost_files:open_stage",
    "lightgbm": "foretell.runtimes.lightgbm_files:open_stage",
    "trees": "foretell.runtimes.trees.stage:open_stage",
    "callable": "foretell.runtimes.python_class:open_stage",
}
"""Runtime -> the function that opens a stage from `StageFiles`."""

_EXTRAS = {
    "scikit-learn": "sklearn",
    "pandas": "sklearn",
    "xgboost": "xgboost",
    "xgboost-cpu": "xgboost",
    "lightgbm": "lightgbm",
}
_SAME_LIBRARY = {"xgboost": "xgboost-cpu", "xgboost-cpu": "xgboost"}
_UNCHECKED = {"python", "foretell"}
_FRAMEWORKS = {"scikit-learn", "xgboost", "xgboost-cpu", "lightgbm", "onnxruntime"}


def load(manifest: Manifest, folder: Path, *, threads: int = 1) -> Servable:
    """The servable of the package in `folder`; its digests were checked before.

    Raises BadPackage for a file that is unsafe or unreadable, or that needs another major
    version of a library; MissingExtra for a library that is not installed.
    """
    check_libraries(manifest.libraries)
    with warnings.catch_warnings():
        if any(step.runtime == "sklearn" for step in manifest.steps):
            _quieten_sklearn()
        stages = open_stages(manifest.steps, folder, trusted=manifest.trusted, threads=threads)
    return Chain(manifest.signature, stages, manifest.steps[0].options)


def load_bulk(manifest: Manifest, folder: Path, *, threads: int = 1) -> Servable | None:
    """The servable for large batches of the package in `folder`; None where it has none.

    It may be called by many threads at once. Raises as `load` does.
    """
    if manifest.bulk is None:
        return None
    stages = open_stages((manifest.bulk,), folder, trusted=False, threads=threads)
    return Chain(manifest.signature, stages, manifest.bulk.options)


def _quieten_sklearn() -> None:
    """Leave sklearn's warning of another version to the packer, who saw it, and to us."""
    try:
        from sklearn.exceptions import InconsistentVersionWarning
    except ImportError as error:
        raise MissingExtra("install foretell[sklearn]: scikit-learn is missing") from error
    warnings.simplefilter("ignore", InconsistentVersionWarning)


def open_stages(
    steps: tuple[Step, ...],
    folder: Path,
    *,
    trusted: bool,
    threads: int = 1,
    unproven: bool = False,
) -> tuple[Stage, ...]:
    """The stages of `steps`, in order; `unproven` when the files were never opened before."""
    return tuple(
        _opener(step.runtime)(
            StageFiles(folder, step.files, step.options, trusted, threads, unproven)
        )
        for step in steps
    )


def _opener(runtime: str) -> Callable[[StageFiles], Stage]:
    try:
        module, _, function = RUNTIMES[runtime].partition(":")
    except KeyError:
        raise BadPackage(
            f"this Foretell has no runtime {runtime!r}, only {', '.join(RUNTIMES)}"
        ) from None
    return cast("Callable[[StageFiles], Stage]", getattr(importlib.import_module(module), function))


def check_libraries(recorded: Mapping[str, str]) -> None:
    """Compare the versions a package was made with against those installed.

    Warns about another minor version; raises BadPackage for another major version of a
    framework and MissingExtra for a library that is not there.
    """
    for library, made_with in recorded.items():
        if library in _UNCHECKED:
            continue
        installed = _installed(library)
        if installed is None:
            extra = _EXTRAS.get(library)
            need = f"foretell[{extra}]" if extra else library
            raise MissingExtra(f"install {need}: this model was packed with {library} {made_with}")
        before, now = made_with.split("."), installed.split(".")
        advice = (
            f"this model was packed with {library} {made_with}, but {installed} is installed; "
            f"install {library}=={made_with} or pack the model again"
        )
        if before[0] != now[0] and library in _FRAMEWORKS:
            raise BadPackage(advice)
        if before[:2] != now[:2]:
            warnings.warn(advice, UserWarning, stacklevel=3)


def _installed(library: str) -> str | None:
    for name in (library, _SAME_LIBRARY.get(library)):
        if name is not None:
            try:
                return version(name)
            except PackageNotFoundError:
                continue
    return None
