"""LightGBM's own files: a booster saved as text by `save_model`.

Answers by objective, as `LGBMClassifier` and `LGBMRegressor` make them of the same booster
(lightgbm/sklearn.py, `LGBMClassifier.predict` and `predict_proba`):

- `binary`                      probability [1 - p, p], and the index of the greater
- `multiclass`, `multiclassova` the probabilities, and the index of the greatest
- anything else                 the number as it is

The file holds a model stopped early only up to its best iteration, and the categories of pandas
columns (`pandas_categorical`, for the columns of `[categorical_feature: …]`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from foretell.core.field import Array, Field, Scalar
from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes.stages import Known, StageFiles, try_apart
from foretell.runtimes.tables import Table, TableForm, Tabulate, tabulator

_OBJECTIVE = re.compile(r"^objective=(\S+)", re.MULTILINE)
_CATEGORICAL = re.compile(r"^\[categorical_feature: ([\d,]+)\]", re.MULTILINE)
_UNNAMED = re.compile(r"Column_\d+")


_TRY = """
import ctypes, sys
library, raw, booster = ctypes.CDLL(sys.argv[1]), open(sys.argv[2], "rb").read(), ctypes.c_void_p()
library.LGBM_BoosterLoadModelFromString(raw, ctypes.byref(ctypes.c_int()), ctypes.byref(booster))
size, told = ctypes.c_int64(1 << 20), ctypes.create_string_buffer(1 << 20)
library.LGBM_BoosterGetLoadedParam(booster, size, ctypes.byref(size), told)
"""


def open_stage(files: StageFiles) -> LightGBMStage:
    """The booster in one file. Raises BadPackage and MissingExtra."""
    path = files.only
    try:
        import lightgbm
        import lightgbm.libpath
    except (ImportError, OSError) as error:
        raise MissingExtra(f"install foretell[lightgbm] to read {path.name}") from error
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith("tree"):
            raise BadPackage(f"{path.name} is not a LightGBM model: it does not start with 'tree'")
        if "\nend of trees" not in text or (
            "\nparameters:" in text and "\nend of parameters" not in text
        ):
            raise BadPackage(f"{path.name} is not a readable LightGBM model: it ends too early")
        try_apart(files, "LightGBM", lightgbm.libpath._LIB._name, _TRY)
        return LightGBMStage(lightgbm.Booster(model_str=text), text, path.name, files.threads)
    except (lightgbm.basic.LightGBMError, LookupError, OSError, ValueError) as error:
        raise BadPackage(f"{path.name} is not a readable LightGBM model: {error}") from error


class LightGBMStage:
    """A booster, and what its objective makes of the numbers."""

    def __init__(self, booster: Any, text: str, file: str, threads: int) -> None:
        self.booster = booster
        self.file = file
        self._threads = threads
        objective = _OBJECTIVE.search(text)
        self.objective = objective.group(1) if objective else "unknown"
        self.categories = categories_of(booster, text)
        names = booster.feature_name()
        n_classes = booster.num_model_per_iteration()
        labels: tuple[Scalar, ...] | None = None
        if self.objective == "binary":
            labels = (0, 1)
        elif self.objective in ("multiclass", "multiclassova"):
            labels = tuple(range(n_classes))
        unnamed = all(map(_UNNAMED.fullmatch, names))
        self.known = Known(None if unnamed else tuple(names), booster.num_feature(), labels)

    def tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        """An array, or a DataFrame when there are categories."""
        return tabulator(inputs, TableForm.of(options))

    def transform(self, table: Table) -> Table:
        """Raises BadPackage: a booster only predicts."""
        raise BadPackage(f"{self.file} predicts, so it must be the last file")

    def predict(self, table: Table) -> Mapping[str, Array]:
        """`prediction`, and `probability` for the objectives that give one."""
        values = np.asarray(self.booster.predict(table, num_threads=self._threads))
        if self.objective == "binary":
            values = np.vstack((1.0 - values, values)).T
        elif self.objective not in ("multiclass", "multiclassova"):
            return {"prediction": values}
        return {"prediction": np.argmax(values, axis=1), "probability": values}


def categories_of(booster: Any, text: str | None = None) -> dict[str, tuple[Scalar, ...]]:
    """The categories of a booster's pandas columns, by name, in the order of their codes."""
    known = booster.pandas_categorical
    if not known:
        return {}
    places = _CATEGORICAL.search(text if text is not None else booster.model_to_string())
    columns = [int(place) for place in places.group(1).split(",")] if places else []
    if len(columns) != len(known):
        raise BadPackage("the LightGBM model has categories, but does not say of which columns")
    names = booster.feature_name()
    return {names[place]: tuple(values) for place, values in zip(columns, known, strict=True)}
