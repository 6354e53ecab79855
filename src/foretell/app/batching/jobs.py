"""A batch job as the command line and Python start it: `foretell.batch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foretell.app.batching import metrics
from foretell.app.batching.choices import BatchSettings
from foretell.app.settings import Settings
from foretell.app.targets import packages_of
from foretell.core.routing import newest
from foretell.engine.repository import Package
from foretell.errors import BadPackage, ForetellError, StartFailed
from foretell.transports.batch.engines.elsewhere import Engine
from foretell.transports.batch.preparing import Prepared, prepare
from foretell.transports.batch.report import Progress, Report
from foretell.transports.batch.running import run

Hook = Callable[[Progress], None]


def batch(
    model: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    hook: Hook | None = None,
    **options: Any,
) -> Report:
    """Score the files of `data` with `model`, write them to `output`, and report.

    `model` is a package, a model file, or a repository of one model, of which the newest version is
    taken. `data` is a file, a folder, or a pattern; `output` a folder, or a file whose name tells
    its form. What an earlier run of the same job has done is not done again. `hook` is told now
    and then how far it is.

    `options` are those of `foretell batch`, with underscores; `columns` may be a dict of columns
    by input. Raises InvalidInput for rows and columns that do not fit, BadSettings, BadPackage.
    """
    columns = options.get("columns")
    if isinstance(columns, Mapping):
        options["columns"] = [f"{name}={column}" for name, column in columns.items()]
    job = BatchJob(model, data, output, BatchSettings.read(options))
    return job.run(hook or _nobody)


def _nobody(_: Progress) -> None:
    """Nobody wants to know."""


class BatchJob:
    """One job that is decided in all: `prepared` tells what it will do.

    Raises InvalidInput, which tells all that does not fit, BadSettings, BadPackage.
    """

    def __init__(
        self, model: str | Path, data: str | Path, output: str | Path, settings: BatchSettings
    ) -> None:
        self._settings = settings
        self._options = settings.options()
        metrics.check(settings.metrics_file, settings.pushgateway)
        self.package = package_of(model)
        self.prepared: Prepared = prepare(
            self.package, os.fspath(data), os.fspath(output), self._options
        )
        self.progress: Progress | None = None

    def run(self, hook: Hook) -> Report:
        """Do what is left of it, and report; metrics tell of the end, whichever it is."""

        def told(progress: Progress) -> None:
            self.progress = progress
            hook(progress)

        try:
            engine = _engine_of(self._settings)
            report = run(self.package, self.prepared, self._options, told, engine=engine)
        except BaseException as error:
            try:
                self._measure(success=False)
            except ForetellError as other:  # the job's own end is what is told first
                error.add_note(other.message)
            raise
        try:
            self._measure(success=True)
        except StartFailed as error:
            raise StartFailed(f"all rows are done, but {error.message}") from error
        return report

    def _measure(self, *, success: bool) -> None:
        manifest, settings = self.package.manifest, self._settings
        if settings.metrics_file is None and settings.pushgateway is None:
            return
        labels = {
            "model": manifest.name,
            "version": manifest.version,
            "output": self.prepared.output,
        }
        text = metrics.text_of(labels, self.progress, success=success)
        if settings.metrics_file is not None:
            metrics.write(settings.metrics_file, text)
        if settings.pushgateway is not None:
            metrics.push(settings.pushgateway, manifest.name, text)


def _engine_of(settings: BatchSettings) -> Engine | None:
    """What runs a job elsewhere; None for this process. Raises MissingExtra."""
    match settings.engine:
        case "ray":
            from foretell.transports.batch.engines.ray import RayEngine

            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of its own pools

            return RayEngine(settings.ray_address)
        case "spark":
            from foretell.transports.batch.engines.spark import SparkEngine

            if (settings.spark_master or "local").startswith("local"):  # executors are here, too
                os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            return SparkEngine(settings.spark_master)
    return None


def package_of(target: str | Path) -> Package:
    """The package of the one model that `target` holds, its newest version. Raises BadPackage."""
    packages = packages_of([target], cache_dir=Settings.read().cache_dir)
    versions = {package.manifest.version: package for package in packages}
    if len({package.manifest.name for package in packages}) > 1:
        held = ", ".join(str(package.folder) for package in packages)
        raise BadPackage(f"{target} holds several models; name one of {held}")
    return versions[newest(versions)]
