"""A Python class is a model of one's own: `predict`, and maybe `load`.

    class Churn:
        def load(self, folder: Path) -> None: ...              # once, with its data files
        def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]

Rules:

1. The code is the package's copy, under a module name of its own: two versions of a module
   live side by side, and neither is what `import` finds elsewhere.
2. Modules of a code package import one another relatively or by the package's name, as long
   as they do it when they are imported; inside functions only relative imports work.
3. Missing is NaN in number columns, None in text columns.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import Array, Field
from foretell.core.signature import Signature
from foretell.errors import BadPackage
from foretell.runtimes.stages import Known, StageFiles, line_of, plain
from foretell.runtimes.tables import Table, Tabulate

CODE, DATA = "code", "data"
_importing = threading.RLock()


def open_stage(files: StageFiles) -> PythonStage:
    """An instance of the class that the options name. Raises BadPackage."""
    module, name = str(files.options.get("module")), str(files.options.get("class"))
    found = getattr(_load_module(files.folder / CODE, module), name, None)
    if not isinstance(found, type) or not callable(getattr(found, "predict", None)):
        raise BadPackage(f"{module} has no class {name} with a method predict")
    with _told(f"{module}:{name} cannot be loaded"):
        model = found()
        if hasattr(model, "load"):
            model.load(files.folder / DATA)
        return PythonStage(model, f"{module}:{name}")


class PythonStage:
    """One instance of somebody's class."""

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name
        signature = getattr(model, "signature", None)
        if signature is not None and not isinstance(signature, Signature):
            raise BadPackage(f"{name}.signature is not a foretell.Signature")
        self.known = Known(signature=signature)

    def tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        """A dict of columns by name."""
        names = [field.name for field in inputs]

        def columns(batch: Batch) -> Table:
            return dict(zip(names, batch.columns, strict=True))

        return columns

    def transform(self, table: Table) -> Table:
        """Raises BadPackage: a class only predicts."""
        raise BadPackage(f"{self.name} predicts, so it must come last")

    def predict(self, table: Table) -> Mapping[str, Array]:
        """What the class answers; a bare array is called `prediction`."""
        answer = self.model.predict(table)
        if isinstance(answer, Mapping):
            return {str(name): _kept(values) for name, values in answer.items()}
        return {"prediction": _kept(answer)}


def _kept(values: Any) -> Array:
    """An answer in memory that the class has not: it may write the next one over it."""
    return plain(np.array(values))


def _load_module(code: Path, module: str) -> ModuleType:
    """The module called `module` of the files in `code`, under a name only this folder has."""
    root, _, rest = module.partition(".")
    place = hashlib.sha256(str(code.resolve()).encode()).hexdigest()[:16]
    private = f"_foretell_{place}_{root}"
    file = code / f"{root}.py" if (code / f"{root}.py").is_file() else code / root / "__init__.py"
    with _importing, _named(root, private):
        loaded = sys.modules.get(private) or _execute(file, private)
        sys.modules[root] = loaded
        for part in filter(None, rest.split(".")):
            private = f"{private}.{part}"
            with _told(f"{module} cannot be imported"):
                loaded = importlib.import_module(private)
    return loaded


def _execute(file: Path, private: str) -> ModuleType:
    package = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(private, file, submodule_search_locations=package)
    if spec is None or spec.loader is None or not file.is_file():
        raise BadPackage(f"the package has no code for {private.rpartition('_')[2]}")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[private] = loaded
    root = private.rpartition("_")[2]
    sys.modules[root] = loaded
    try:
        with _told(f"{file.name} cannot be imported"):
            spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[private]
        raise
    return loaded


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Make whatever somebody's code raises, sys.exit too, a BadPackage that starts with `what`."""
    try:
        yield
    except (BadPackage, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise BadPackage(f"{what}: {line_of(error)}") from error


@contextmanager
def _named(root: str, private: str) -> Iterator[None]:
    """Let `import root` mean the private module, and undo that afterwards."""

    def own() -> list[str]:
        return [name for name in sys.modules if name == root or name.startswith(f"{root}.")]

    before = {name: sys.modules.pop(name) for name in own()}
    try:
        yield
    finally:
        for name in own():
            del sys.modules[name]
        sys.modules.update(before)
