"""Starting finds the packages to serve, before any worker exists."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from foretell.app.settings import Settings
from foretell.app.targets import packages_of
from foretell.engine.repository import Package


def find_packages(targets: Sequence[str], settings: Settings) -> list[Package]:
    """The packages that `targets` name. Raises BadPackage.

    Model files are packed in a process of their own: frameworks start threads, and workers
    are forked from this process later.
    """
    if all(Path(target).is_dir() for target in targets):
        return packages_of(targets, cache_dir=settings.cache_dir)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(packages_of, targets, cache_dir=settings.cache_dir).result()
