"""An estimator is anything with scikit-learn's `predict` or `transform`, from a pickle or skops.

Rules:

1. Answers are the estimator's own: `predict` and `predict_proba` are called, nothing is
   derived from the one for the other.
2. In scikit-learn's own Pipeline the transforming steps run once for both, as in
   `Pipeline.predict` and `Pipeline.predict_proba`; any subclass is called as a whole.
3. An estimator that was fitted with feature names gets a DataFrame, any other an array.
4. `n_jobs` becomes the stage's threads: a pool for one row costs more than the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.field import Array, Field, Scalar
from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes import lightgbm_files, xgboost_files
from foretell.runtimes.safety.allowlist import is_allowed
from foretell.runtimes.safety.objects import Misuse, check_loaded
from foretell.runtimes.safety.pickles import load_pickle, refusal
from foretell.runtimes.stages import Known, StageFiles, plain, plain_labels
from foretell.runtimes.tables import Table, TableForm, Tabulate, tabulator


def open_stage(files: StageFiles) -> EstimatorStage:
    """The estimator in one file. Raises BadPackage and MissingExtra."""
    path = files.only
    estimator = read_estimator(path, trusted=files.trusted)
    if files.options.get("table") == "bare":
        _forget_names(estimator, set())
    try:
        return EstimatorStage(estimator, path.name, files.threads)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        kind = type(estimator).__name__
        raise BadPackage(f"{path.name} holds a damaged {kind}: {error}") from error


def read_estimator(path: Path, *, trusted: bool) -> Any:
    """The object in a pickle, joblib or skops file. Raises BadPackage and MissingExtra."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"install foretell[sklearn] to read {path.name}: scikit-learn is missing"
        ) from error
    if path.suffix == ".skops":
        estimator = _load_skops(path, trusted=trusted)
    else:
        estimator = load_pickle(path, trusted=trusted)
    kind = type(estimator)
    if (kind.__module__, kind.__name__) == ("xgboost.core", "Booster"):
        raise BadPackage(
            f"{path.name} holds a Booster of XGBoost: save it with "
            "Booster.save_model('model.json') and pack that file"
        )
    try:
        check_loaded(estimator, trusted=trusted)
    except Misuse as error:
        raise BadPackage(f"{path.name} {error}") from error
    return estimator


def untrusted_skops_types(path: Path) -> tuple[tuple[str, str], ...]:
    """The types in a skops file that neither skops nor the allow-list trusts."""
    skops = _skops(path)
    names = _guarded(path, lambda: skops.get_untrusted_types(file=path))
    parts = (tuple(name.rpartition(".")[::2]) for name in names)
    return tuple(part for part in parts if not is_allowed(*part))


def _load_skops(path: Path, *, trusted: bool) -> Any:
    skops = _skops(path)
    refused = untrusted_skops_types(path)
    if refused and not trusted:
        raise refusal(path, refused[0])
    named = _guarded(path, lambda: skops.get_untrusted_types(file=path))
    return _guarded(path, lambda: skops.load(path, trusted=named))


def _skops(path: Path) -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise MissingExtra(
            f"install foretell[sklearn] to read {path.name}: skops is missing"
        ) from error
    return skops.io


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    import zipfile

    try:
        return read()
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, TypeError) as error:
        raise BadPackage(f"{path.name} is not a readable skops file: {error}") from error
    except (AttributeError, ImportError) as error:
        raise BadPackage(f"{path.name} cannot be loaded: {error}") from error


class EstimatorStage:
    """One estimator and the calls that make its answers."""

    def __init__(self, estimator: Any, file: str, threads: int = 1) -> None:
        self.estimator: Any = estimator
        self.file = file
        _check_fitted(estimator, file)
        _limit_threads(estimator, threads)
        self.known = _known(estimator)
        self.predicts = hasattr(estimator, "predict")
        self.transforms = hasattr(estimator, "transform")
        self.categories = _categories(estimator)
        self._index = _index(self.known.names)
        self._front: tuple[Any, ...] = ()
        self._final = estimator
        if type(self.estimator) is _pipeline_class():
            *front, self._final = [part for _, part in self.estimator.steps]
            self._front = tuple(part for part in front if part not in (None, "passthrough"))
        self._probability = hasattr(estimator, "predict_proba")
        self._score = self.predicts and _is_outlier_detector(estimator)

    def tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        """Batches become what `options` recorded; see `TableForm`."""
        return tabulator(inputs, TableForm.of(options))

    def transform(self, table: Table) -> Table:
        """`estimator.transform`. Raises BadPackage when it has none."""
        if not self.transforms:
            raise self.cannot_transform()
        return self.estimator.transform(self._named(table))

    def predict(self, table: Table) -> Mapping[str, Array]:
        """`prediction`, and `probability` and `score` where the estimator has them."""
        if not self.predicts:
            raise self.cannot_predict()
        table = self._named(table)
        for part in self._front:
            table = part.transform(table)
        return self._answers(self._final, table)

    def predict_plainly(self, table: Table) -> Mapping[str, Array]:
        """The same as `predict` without any shortcut: what a proof compares with."""
        return self._answers(self.estimator, self._named(table))

    def _answers(self, estimator: Any, table: Table) -> dict[str, Array]:
        answers = {"prediction": plain(estimator.predict(table))}
        if self._probability:
            rows = estimator.predict_proba(table)
            if isinstance(rows, list):
                answers |= {f"probability_{place}": plain(part) for place, part in enumerate(rows)}
            else:
                answers["probability"] = plain(rows)
        if self._score:
            answers["score"] = plain(estimator.decision_function(table))
        return answers

    def cannot_transform(self) -> BadPackage:
        """The error for an estimator without `transform` in front of another."""
        return BadPackage(
            f"{self.file} predicts, so it must be the last file: "
            f"foretell pack scaler.pkl {self.file}"
        )

    def cannot_predict(self) -> BadPackage:
        """The error for an estimator without `predict`."""
        kind = type(self.estimator).__name__
        if self.transforms:
            return BadPackage(
                f"{self.file} can transform but not predict; pack it in front of its model: "
                f"foretell pack {self.file} model.pkl"
            )
        hint = ""
        if hasattr(self.estimator, "novelty"):
            hint = "; fit it with novelty=True"
        elif hasattr(self.estimator, "fit_predict"):
            hint = ": it only labels the rows it was fitted on"
        elif isinstance(self.estimator, dict | list | tuple):
            return BadPackage(
                f"{self.file} holds a {kind}, not a model; save each object in a file of its own "
                "and pack them in order: foretell pack scaler.pkl model.pkl"
            )
        return BadPackage(f"{self.file} holds a {kind}, which has no predict{hint}")

    def _named(self, table: Table) -> Table:
        """`table` with the names the estimator was fitted with, or without if it had none."""
        if self._index is not None:
            if type(table) is np.ndarray and table.ndim == 2:
                import pandas as pd

                return pd.DataFrame(table, columns=self._index, copy=False)
        elif self.known.n_features is not None and hasattr(table, "to_numpy"):
            return table.to_numpy()
        return table


def _known(estimator: Any) -> Known:
    names = getattr(estimator, "feature_names_in_", None)
    count = getattr(estimator, "n_features_in_", None)
    classes = getattr(estimator, "classes_", None)
    return Known(
        names=None if names is None else tuple(str(name) for name in names),
        n_features=int(count) if isinstance(count, int | np.integer) else None,
        class_labels=None if classes is None else plain_labels(classes),
    )


def _forget_names(part: Any, done: set[int]) -> None:
    """Take the feature names off an estimator and all that is fitted inside it."""
    if id(part) in done:
        return
    done.add(id(part))
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list | tuple) or (isinstance(part, np.ndarray) and part.dtype == object):
        for inner in part if not isinstance(part, np.ndarray) else part.flat:
            _forget_names(inner, done)
    elif type(part).__module__.startswith("sklearn."):
        known = getattr(part, "__dict__", {})
        known.pop("feature_names_in_", None)
        for inner in known.values():
            _forget_names(inner, done)


def _check_fitted(estimator: Any, file: str) -> None:
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if isinstance(estimator, type):
        raise BadPackage(f"{file} holds the class {estimator.__name__}, not a trained model")
    if isinstance(estimator, BaseEstimator):
        try:
            check_is_fitted(estimator)
        except NotFittedError as error:
            raise BadPackage(
                f"{file} holds a {type(estimator).__name__} that was never fitted; "
                "save it after calling fit"
            ) from error


def _categories(estimator: Any) -> dict[str, tuple[Scalar, ...]]:
    """The categories of pandas columns that XGBoost's and LightGBM's estimators keep."""
    match type(estimator).__module__.partition(".")[0]:
        case "lightgbm" if hasattr(estimator, "booster_"):
            return lightgbm_files.categories_of(estimator.booster_)
        case "xgboost" if hasattr(estimator, "get_booster"):
            return xgboost_files.categories_of(estimator.get_booster())
    return {}


def _limit_threads(estimator: Any, threads: int) -> None:
    if not hasattr(estimator, "get_params"):
        return
    asked = {
        name: threads
        for name, value in estimator.get_params(deep=True).items()
        if name.rpartition("__")[2] == "n_jobs" and value is not None
    }
    if asked:
        estimator.set_params(**asked)


def _index(names: tuple[str, ...] | None) -> Any:
    if names is None:
        return None
    import pandas as pd

    return pd.Index(names, dtype=object)


def _pipeline_class() -> Any:
    from sklearn.pipeline import Pipeline

    return Pipeline


def _is_outlier_detector(estimator: Any) -> bool:
    from sklearn.base import BaseEstimator, is_outlier_detector

    return isinstance(estimator, BaseEstimator) and bool(is_outlier_detector(estimator))
