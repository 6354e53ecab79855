"""A local model is a package loaded into this process: predictions without a server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretell.app.settings import Settings
from foretell.app.targets import packages_of
from foretell.codecs import arrow_tables, columns
from foretell.core.batch import Batch
from foretell.core.field import Array
from foretell.core.signature import Signature
from foretell.engine import fleet
from foretell.engine.executors.choosing import ExecutorKind
from foretell.errors import BadPackage, InvalidInput


class LocalModel:
    """One loaded version. It answers what the same package answers at every door."""

    def __init__(self, loaded: fleet.Loaded) -> None:
        self._loaded = loaded

    @property
    def name(self) -> str:
        return self._loaded.name

    @property
    def version(self) -> str:
        return self._loaded.version

    @property
    def signature(self) -> Signature:
        return self._loaded.signature

    def predict(self, rows: Any) -> dict[str, Array]:
        """The outputs by name, one array of n entries each, for n rows.

        `rows` is a dict or a list of dicts or sequences, a numpy array of shape (n, k), a
        pandas DataFrame or an Arrow table. Raises InvalidInput with field and row.
        """
        outputs = self._loaded.predict(batch_of(self.signature, rows))
        names = (field.name for field in outputs.fields)
        return dict(zip(names, outputs.columns, strict=True))

    def __repr__(self) -> str:
        return f"LocalModel({self.name} {self.version})"


def load(target: str | Path) -> LocalModel:
    """Load the one version that `target` (a package, a model file, a repository) holds.

    Raises BadPackage, also when there are several versions to choose from.
    """
    packages = packages_of([target], cache_dir=Settings.read().cache_dir)
    if len(packages) != 1:
        held = ", ".join(str(package.folder) for package in packages)
        raise BadPackage(f"{target} holds several versions; name one of {held}")
    return LocalModel(fleet.load(packages[0], kind=ExecutorKind.INLINE))


def batch_of(signature: Signature, rows: Any) -> Batch:
    """`rows`, in any of the forms of `LocalModel.predict`, as accepted inputs."""
    library = type(rows).__module__.partition(".")[0]
    if library == "pandas":
        columns.check_names(signature, list(map(str, rows.columns)))
        named = {str(name): _series(rows[name]) for name in rows.columns}
        return columns.accepted(signature, named)
    if library == "pyarrow":
        return arrow_tables.batch_of(signature, rows)
    if isinstance(rows, np.ndarray):
        if rows.ndim != 2 or rows.shape[1] != len(signature.inputs):
            raise InvalidInput(
                f"the array has shape {rows.shape}, but must be (n, {len(signature.inputs)})"
            )
        return columns.accepted(signature, dict(zip(signature.input_names, rows.T, strict=True)))
    if isinstance(rows, Mapping):
        rows = [rows]
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InvalidInput(f"rows are a {type(rows).__name__}, but must be a list or a table")
    accepted = []
    for number, row in enumerate(rows):
        try:
            accepted.append(signature.accept_row(row))
        except InvalidInput as error:
            raise error.at_row(number) from None
    if not accepted:
        raise InvalidInput("there are no rows; give at least one")
    return Batch.from_rows(signature.inputs, accepted)


def _series(series: Any) -> Array:
    """A pandas column as numpy; whatever pandas means by missing is None in object columns."""
    plain: Array = series.to_numpy()
    if plain.dtype.kind in "iufb":
        return plain
    boxed: Array = series.astype(object).where(series.notna(), None).to_numpy()
    return boxed
