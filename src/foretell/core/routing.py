"""Routing is the choice of a version: which one answers a request that names none.

Rules:

1. Versions are ordered as people read them: runs of digits as numbers, `1.10.0` after
   `1.9.2`; a pre-release (`1.2.0-rc1`, after a hyphen) before its release, build
   metadata (after a plus) after.
2. The newest version answers unless something else was asked for.
"""

from collections.abc import Iterable

_END, _TEXT, _NUMBER = 0, 1, 2


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts version strings oldest first."""
    release, hyphen, pre = version.partition("-")
    if release[:1] in ("v", "V") and release[1:2].isdigit():
        release = release[1:]
    # A release sorts after its pre-releases, but before its own longer forms.
    suffix = ((-1, 0, ""), *_runs(pre)) if hyphen else ((_END, 0, ""),)
    return (*_runs(release), *suffix)


def newest(versions: Iterable[str]) -> str:
    """The newest of `versions`. Raises ValueError when there are none."""
    return max(versions, key=version_key)


def _runs(text: str) -> tuple[tuple[int, int, str], ...]:
    runs: list[str] = []
    for character in text:
        if runs and character.isdigit() == runs[-1][-1].isdigit():
            runs[-1] += character
        else:
            runs.append(character)
    return tuple(
        (_NUMBER, int(run), "") if run.isdigit() else (_TEXT, 0, run.strip(".+_")) for run in runs
    )
