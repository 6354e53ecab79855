"""An inspection tells what a raw model file is and wants, without running what it should not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.core.manifest import Step
from foretell.errors import ForetellError
from foretell.packing.libraries import libraries_of
from foretell.packing.sources import Source, recognise
from foretell.runtimes.estimators import EstimatorStage, untrusted_skops_types
from foretell.runtimes.loading import open_stages
from foretell.runtimes.safety.pickles import inspect_pickle


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model file is: `refused` globals keep it from being loaded, `problem` says so.

    `model` is the class of the object, once it is safe to look at; the rest is what it knows.
    """

    path: str
    format: str
    size: int
    compression: str | None = None
    globals: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    problem: str | None = None
    model: str | None = None
    feature_names: tuple[str, ...] | None = None
    n_features: int | None = None
    class_labels: tuple[Any, ...] | None = None
    libraries: Mapping[str, str] | None = None

    def describe(self) -> dict[str, Any]:
        """This inspection as JSON-ready data."""
        return {
            "path": self.path,
            "format": self.format,
            "size": self.size,
            "compression": self.compression,
            "globals": list(self.globals),
            "refused": list(self.refused),
            "safe": not self.refused,
            "problem": self.problem,
            "model": self.model,
            "feature_names": None if self.feature_names is None else list(self.feature_names),
            "n_features": self.n_features,
            "class_labels": self.class_labels,
            "libraries": None if self.libraries is None else dict(self.libraries),
        }


def inspect_file(path: str | Path) -> Inspection:
    """What the model file at `path` is. Raises BadPackage when it is unreadable."""
    source = recognise(Path(path))
    facts: dict[str, Any] = {
        "path": str(path),
        "format": source.format,
        "size": source.path.stat().st_size,
    }
    refused = _look_inside(source, facts)
    if not refused:
        facts |= _known(source)
    return Inspection(**facts)


def _look_inside(source: Source, facts: dict[str, Any]) -> bool:
    """Add what a pickle or skops file names to `facts`; True when some of it is refused."""
    if source.format == "skops":
        facts["refused"] = _dotted(untrusted_skops_types(source.path))
    elif source.runtime == "sklearn":
        report = inspect_pickle(source.path)
        facts["compression"] = report.compression
        facts["globals"] = _dotted(report.globals)
        facts["refused"] = _dotted(report.refused)
    return bool(facts.get("refused"))


def _dotted(found: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(".".join(part) for part in found)


def _known(source: Source) -> dict[str, Any]:
    step = Step(source.runtime, (source.path.name,))
    folder = source.path.parent
    try:
        (stage,) = open_stages((step,), folder, trusted=False, unproven=True)
    except ForetellError as error:
        return {"problem": error.message}
    known = stage.known
    facts: dict[str, Any] = {
        "feature_names": known.names,
        "n_features": known.n_features,
        "class_labels": known.class_labels,
        "libraries": libraries_of((step,), (stage,)),
    }
    if known.fields is not None:
        facts["feature_names"] = tuple(field.name for field in known.fields)
    if isinstance(stage, EstimatorStage):
        kind = type(stage.estimator)
        facts["model"] = f"{kind.__module__}.{kind.__qualname__}"
        if not stage.predicts:
            facts["problem"] = stage.cannot_predict().message
    return facts
