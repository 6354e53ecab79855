"""Starting finds the packages to serve, before any worker exists."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from foretell.app.settings import Settings
from foretell.app.targets import packages_of
from foretell.engine.repository import Package
from foretell.errors import ForetellError, StartFailed


def stop_quietly() -> None:
    """Let SIGTERM end a start that is under way, cleanly and with exit code 0."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)


def find_packages(targets: Sequence[str], settings: Settings) -> list[Package]:
    """The packages that `targets` name. Raises BadPackage, StartFailed.

    Model files are packed in a process of their own: frameworks start threads, and workers
    are forked from this process later.
    """
    if all(Path(target).is_dir() for target in targets):
        return packages_of(targets, cache_dir=settings.cache_dir)
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    packer = spawn.Process(target=_find, args=(theirs, targets, settings.cache_dir), daemon=True)
    with _undisturbed():
        packer.start()
    theirs.close()
    try:
        found: list[Package] | ForetellError = ours.recv()
    except EOFError:
        packer.join()
        raise StartFailed(
            f"packing {', '.join(targets)} ended with exit code {packer.exitcode}; "
            "pack it on its own to see why: foretell pack"
        ) from None
    finally:
        packer.terminate()
        packer.join()
    if isinstance(found, ForetellError):
        raise found
    return found


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep SIGTERM until the end of the block: a process half started would complain aloud."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if came:
        os.kill(os.getpid(), signal.SIGTERM)


def _find(pipe: Connection, targets: Sequence[str], cache_dir: Path) -> None:
    # Ctrl-C reaches the whole group; the server answers it for both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pipe.send(packages_of(targets, cache_dir=cache_dir))
    except ForetellError as error:
        pipe.send(error)
