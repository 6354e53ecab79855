"""A local model is a package loaded into this process: predictions without a server."""

from pathlib import Path
from typing import Any

from foretell.app.settings import Settings
from foretell.app.targets import packages_of
from foretell.codecs.asking.rows import batch_of
from foretell.core.field import Array
from foretell.core.signature import Signature
from foretell.engine import fleet
from foretell.engine.executors.choosing import ExecutorKind
from foretell.errors import BadPackage


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
