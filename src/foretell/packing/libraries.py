"""The libraries of a package: which versions a model was packed with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from foretell.core.manifest import Step
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.stages import Stage

_DISTRIBUTIONS = {
    "sklearn": ("scikit-learn", "joblib"),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "lightgbm": ("lightgbm",),
    "onnx": ("onnxruntime",),
    "skops": ("skops",),
    "pandas": ("pandas",),
}


def libraries_of(steps: tuple[Step, ...], stages: tuple[Stage, ...]) -> dict[str, str]:
    """Distribution -> installed version, of what `steps` need to answer the same again."""
    wanted = ["python", "foretell", "numpy"]
    for step, stage in zip(steps, stages, strict=True):
        for library in (step.runtime, *_of_estimator(step, stage)):
            wanted += _DISTRIBUTIONS.get(library, ())
    known = {name: installed_version(name) for name in dict.fromkeys(wanted)}
    return {name: found for name, found in known.items() if found is not None}


def _of_estimator(step: Step, stage: Stage) -> list[str]:
    if not isinstance(stage, EstimatorStage):
        return []
    found = ["pandas"] if stage.known.names is not None else []
    if any(name.endswith(".skops") for name in step.files):
        found.append("skops")
    return found + [root for root in ("xgboost", "lightgbm") if root in _roots(stage.estimator)]


def _roots(estimator: Any) -> set[str]:
    """The packages of an estimator and of the estimators among its parameters."""
    parts = [estimator]
    if hasattr(estimator, "get_params"):
        parts += estimator.get_params(deep=True).values()
    return {type(part).__module__.partition(".")[0] for part in parts}


def installed_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None
