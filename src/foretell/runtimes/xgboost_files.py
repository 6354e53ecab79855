"""XGBoost's own files: a booster saved as JSON or UBJSON by `save_model`.

Answers by objective, as `XGBClassifier` and `XGBRegressor` make them of the same booster
(xgboost/sklearn.py, `XGBClassifier.predict`, `_cls_predict_proba`):

- `binary:logistic`  p > 0.5 as 0 or 1, and probability [1 - p, p]
- `multi:softprob`   the index of the greatest probability, and the probabilities
- `multi:softmax`, `binary:hinge`  the class as an integer
- anything else      the number as it is, float32

A booster saved from a scikit-learn wrapper (it carries the attribute `scikit_learn`) that was
stopped early answers with its best iteration, as the wrapper does; any other with all trees, as
`Booster.predict` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from foretell.core.field import Array, Field, Scalar
from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes.stages import Known, StageFiles, try_apart
from foretell.runtimes.tables import Table, TableForm, Tabulate, tabulator

# XGBoost reads on behind the end of a file cut short: here nothing readable stands behind it
_TRY = """
import ctypes, mmap, sys
library, raw = ctypes.CDLL(sys.argv[1]), open(sys.argv[2], "rb").read()
size = -(-len(raw) // mmap.PAGESIZE) * mmap.PAGESIZE
pages = mmap.mmap(-1, size + mmap.PAGESIZE)
pages[size - len(raw) : size] = raw
start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + size), mmap.PAGESIZE, 0)
booster = ctypes.c_void_p()
library.XGBoosterCreate(None, ctypes.c_uint64(0), ctypes.byref(booster))
where = ctypes.c_void_p(start + size - len(raw))
library.XGBoosterLoadModelFromBuffer(booster, where, ctypes.c_uint64(len(raw)))
"""


def open_stage(files: StageFiles) -> XGBoostStage:
    """The booster in one file. Raises BadPackage and MissingExtra."""
    path = files.only
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtra(f"install foretell[xgboost] to read {path.name}") from error
    try_apart(files, "XGBoost", xgboost.core._LIB._name, _TRY)
    booster = xgboost.Booster({"nthread": files.threads})
    try:
        booster.load_model(bytearray(path.read_bytes()))
        return XGBoostStage(booster, path.name)
    except (xgboost.core.XGBoostError, LookupError, OSError, ValueError) as error:
        said = str(error).strip().splitlines()[-1] if str(error).strip() else "no model"
        raise BadPackage(f"{path.name} is not a readable XGBoost model: {said}") from error


class XGBoostStage:
    """A booster, and what its objective makes of the numbers."""

    def __init__(self, booster: Any, file: str) -> None:
        self.booster = booster
        self.file = file
        learner = json.loads(booster.save_config())["learner"]
        self.objective = str(learner["objective"]["name"])
        self._inplace = learner["gradient_booster"]["name"] != "gblinear"
        self.categories = categories_of(booster)
        names = booster.feature_names
        self.known = Known(
            names=None if names is None else tuple(names),
            n_features=int(booster.num_features()),
            class_labels=_labels(self.objective, int(learner["learner_model_param"]["num_class"])),
        )
        best = booster.attr("best_iteration") if booster.attr("scikit_learn") else None
        self._trees = (0, 0) if best is None else (0, int(best) + 1)

    def tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        """An array, or a DataFrame when there are categories."""
        return tabulator(inputs, TableForm.of(options))

    def transform(self, table: Table) -> Table:
        """Raises BadPackage: a booster only predicts."""
        raise BadPackage(f"{self.file} predicts, so it must be the last file")

    def predict(self, table: Table) -> Mapping[str, Array]:
        """`prediction`, and `probability` for the objectives that give one."""
        values = np.asarray(self._values(table))
        if self.objective == "binary:logistic":
            labels = (values > 0.5).astype(np.int64)
            if values.ndim > 1:
                return {"prediction": labels, "probability": values}
            return {"prediction": labels, "probability": np.vstack((1.0 - values, values)).T}
        if self.objective == "multi:softprob":
            return {"prediction": np.argmax(values, axis=1), "probability": values}
        if self.objective in ("multi:softmax", "binary:hinge"):
            return {"prediction": values.astype(np.int64)}
        return {"prediction": values}

    def _values(self, table: Table) -> Any:
        if self._inplace:
            return self.booster.inplace_predict(
                table, iteration_range=self._trees, missing=np.nan, validate_features=False
            )
        import xgboost

        rows = xgboost.DMatrix(table, feature_names=self.booster.feature_names)
        return self.booster.predict(rows, iteration_range=self._trees)


def categories_of(booster: Any) -> dict[str, tuple[Scalar, ...]]:
    """The categories of a booster's columns, by name, in the order of their codes.

    Empty for a column that has texts beyond ASCII: XGBoost (3.2 still) counts their characters
    where it stores their bytes, so that they are kept cut, and cannot be told from one another.
    """
    types = booster.feature_types or ()
    if "c" not in types:
        return {}
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    kept = trees.get("gbtree", trees)["model"].get("cats", {}).get("enc", ())
    names = booster.feature_names or [f"f{place}" for place in range(len(types))]
    return {
        str(name): () if _is_cut(column) else _told(column)
        for name, column in zip(names, kept, strict=False)
        if column["values"]
    }


def _is_cut(column: Mapping[str, Any]) -> bool:
    return "offsets" in column and not all(0 <= part < 128 for part in column["values"])


def _told(column: Mapping[str, Any]) -> tuple[Scalar, ...]:
    if "offsets" not in column:
        return tuple(column["values"])
    texts = bytes(column["values"]).decode("ascii")
    return tuple(texts[start:stop] for start, stop in pairwise(column["offsets"]))


def _labels(objective: str, n_classes: int) -> tuple[Scalar, ...] | None:
    if objective in ("binary:logistic", "binary:hinge"):
        return (0, 1)
    return tuple(range(n_classes)) if objective.startswith("multi:") else None
