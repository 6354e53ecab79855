"""The fleet is the set of loaded versions, and knows which one answers a target."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foretell import runtimes
from foretell.core.batch import Batch
from foretell.core.call import Target
from foretell.core.manifest import Manifest
from foretell.core.routing import newest, version_key
from foretell.core.signature import Signature
from foretell.engine.bulk import bulk_form, bulk_predict
from foretell.engine.executors import Executor, Predict, ProcessDied, checked
from foretell.engine.executors.choosing import ExecutorKind, choose, inline_rows
from foretell.engine.executors.inline import InlineExecutor
from foretell.engine.executors.process import ProcessExecutor
from foretell.engine.executors.thread import ThreadExecutor
from foretell.engine.repository import Package, verify
from foretell.errors import BadPackage, ModelFailed, NotFound

_log = logging.getLogger("foretell.engine")


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version that is loaded from `folder` and warm: `executor` runs it for the server.

    `load_s` is how long that took.
    """

    manifest: Manifest
    predict: Predict
    executor: Executor
    folder: Path
    load_s: float = 0.0

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def signature(self) -> Signature:
        return self.manifest.signature

    def for_bulk(self, batch_rows: int, *, threads: int = 1) -> "Loaded":
        """This version for batches of about `batch_rows` rows.

        Its `predict` is the package's bulk form, on `threads` threads, where there is one that
        is measured to be faster at that size; many threads may call that at once. Otherwise it
        is this one itself. Raises BadPackage when the bulk form cannot be read.
        """
        predict = bulk_predict(self.manifest, self.folder, self.predict, batch_rows, threads)
        return self if predict is None else replace(self, predict=predict)


class Fleet:
    """Loaded versions by model, newest first; `default_model` answers targets that name none.

    Raises NotFound when `default_model` is not among them, BadPackage when one version was
    loaded twice.
    """

    def __init__(self, loaded: Sequence[Loaded], *, default_model: str | None = None) -> None:
        models: dict[str, dict[str, Loaded]] = {}
        for one in sorted(loaded, key=lambda one: version_key(one.version), reverse=True):
            versions = models.setdefault(one.name, {})
            if one.version in versions:
                raise BadPackage(f"{one.name} {one.version} was given twice; serve it once")
            versions[one.version] = one
        self.models: Mapping[str, Mapping[str, Loaded]] = dict(sorted(models.items()))
        self._routed = {name: versions[newest(versions)] for name, versions in models.items()}
        if default_model is None and len(models) == 1:
            default_model = next(iter(models))
        if default_model is not None and default_model not in models:
            raise NotFound(f"the default model {default_model!r} is not among {self._listed()}")
        self.default_model = default_model

    def resolve(self, target: Target) -> Loaded:
        """The loaded version that answers `target`. Raises NotFound, naming what there is."""
        name = target.model or self.default_model
        if name is None:
            raise NotFound(
                f"several models are served and none is the default; ask one of {self._listed()}, "
                f"as in /models/{next(iter(self.models), 'NAME')}/predict"
            )
        versions = self.models.get(name)
        if versions is None:
            raise NotFound(f"there is no model {name!r}; served are {self._listed()}")
        if target.version is None:
            return self._routed[name]
        if target.version not in versions:
            raise NotFound(
                f"model {name!r} has no version {target.version!r}; "
                f"loaded are {', '.join(versions)}"
            )
        return versions[target.version]

    def _listed(self) -> str:
        return ", ".join(self.models) or "no models"


def load_bulk(package: Package) -> Predict:
    """Verify a package, and load its bulk form, as it was chosen once; many threads may call it.

    Raises BadPackage when there is none or it cannot be read, MissingExtra.
    """
    verify(package)
    return bulk_form(package.manifest, package.folder, threads=1)


def load(package: Package, *, kind: ExecutorKind = ExecutorKind.AUTO, threads: int = 1) -> Loaded:
    """Verify a package, load it, warm it with its example, and give it an executor.

    `threads` bounds what the model's framework may use. Raises BadPackage, MissingExtra.
    """
    manifest, before = package.manifest, time.perf_counter()
    verify(package)
    example = manifest.signature.example
    warming = None if example is None else Batch.from_rows(manifest.signature.inputs, [example])
    if kind is not ExecutorKind.PROCESS:
        servable = runtimes.load(manifest, package.folder, threads=threads)
        predict = checked(servable.predict, manifest.signature.outputs)
        _warm(manifest, predict, warming)
        if kind is ExecutorKind.AUTO:
            kind = ExecutorKind.THREAD if warming is None else choose(predict, warming)
    if kind is ExecutorKind.PROCESS:
        executor = _in_a_process(package, threads)
        predict = executor.predict
        _warm(manifest, predict, warming)
        loaded = Loaded(manifest, predict, executor, package.folder)
    elif kind is ExecutorKind.INLINE:
        most_rows = None if warming is None else inline_rows(predict, warming)
        loaded = Loaded(manifest, predict, InlineExecutor(predict, most_rows), package.folder)
    else:
        loaded = Loaded(manifest, predict, ThreadExecutor(predict), package.folder)
    seconds = time.perf_counter() - before
    _log.info("%s %s is loaded, %s, in %.2f s", manifest.name, manifest.version, kind, seconds)
    return replace(loaded, load_s=seconds)


def _in_a_process(package: Package, threads: int) -> ProcessExecutor:
    manifest = package.manifest
    try:
        return ProcessExecutor(package.folder, manifest.signature.outputs, threads=threads)
    except (ModelFailed, ProcessDied) as error:
        raise BadPackage(f"{manifest.name} {manifest.version}: {error}") from error


def _warm(manifest: Manifest, predict: Predict, warming: Batch | None) -> None:
    if warming is None:
        return
    try:
        predict(warming)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise BadPackage(
            f"{manifest.name} {manifest.version} cannot answer its own example: {error!r}"
        ) from error
