"""A lock is one exact version for each distribution that a server needs, found without an index.

Rules:

1. It follows what Foretell and the models need through the metadata of what is installed here, as
   Linux would; what is recommended only (other extras) stays out.
2. A version that a package recorded goes before the one that is installed.
3. What is needed and not installed here has no version: MissingExtra, never a guess.
"""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from foretell.deploy.image import Model
from foretell.errors import BadPackage, BadSettings, MissingExtra

OURSELVES = "foretell"
_NOT_INSTALLED = {"python", OURSELVES}
_LINUX = {"os_name": "posix", "platform_system": "Linux", "sys_platform": "linux"}
_WHEEL = re.compile(r"[A-Za-z0-9._+-]+\.whl")  # it goes into the Dockerfile as it is
_SAME_LIBRARY = {"xgboost": "xgboost-cpu", "xgboost-cpu": "xgboost"}


def lock(models: Iterable[Model], *, extras: Iterable[str], wheel: Path | None) -> dict[str, str]:
    """Distribution -> version of all that an image of `models` installs.

    Foretell is one of them unless its `wheel` is given. `extras` are those of Foretell. Raises
    MissingExtra, BadSettings, BadPackage.
    """
    if importlib.util.find_spec("packaging") is None:
        raise MissingExtra("install foretell[deploy] to make images: packaging is missing")
    pinned = _recorded(models)
    told = _own_metadata(wheel)
    _check_extras(extras, told.get_all("Provides-Extra") or [])
    locked: dict[str, str] = {}
    if wheel is None:
        locked[OURSELVES] = str(told["Version"])
    needed = _needs(told.get_all("Requires-Dist") or [], frozenset(extras))
    waiting = [*needed, *((name, frozenset[str]()) for name in pinned)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found = _installed(name)
        locked[_canonical(found.name)] = pinned.get(name, found.version)
        waiting += _needs(found.requires or [], wanted)
    return locked


def _recorded(models: Iterable[Model]) -> dict[str, str]:
    """What packages were made with. Raises BadSettings when two of them disagree."""
    pinned: dict[str, tuple[str, Model]] = {}
    for model in models:
        for library, version in model.manifest.libraries.items():
            if library in _NOT_INSTALLED:
                continue
            name = _canonical(library)
            _check_version(library, version, model)
            before = pinned.setdefault(name, (version, model))
            if before[0] != version:
                raise BadSettings(
                    f"{before[1].place} was packed with {name} {before[0]}, {model.place} with "
                    f"{version}: make an image of each, or pack one of them again"
                )
    return {name: version for name, (version, _) in pinned.items()}


def _check_version(library: str, version: str, model: Model) -> None:
    """A package comes from anywhere: what it records must be no more than a version to pip."""
    from packaging.version import InvalidVersion, Version

    try:
        Version(version)
    except InvalidVersion as error:
        told = f"{model.place} was packed with {library} {version!r}, which is no version"
        raise BadPackage(told) from error


def _own_metadata(wheel: Path | None) -> metadata.PackageMetadata:
    if wheel is not None:
        return _metadata_of(wheel)
    own = metadata.distribution(OURSELVES)
    if own.read_text("direct_url.json") is not None:  # pip writes it for what no index gave
        raise BadSettings(
            f"this Foretell {own.version} did not come from a package index, so an image cannot "
            "get it there; make its wheel (pip wheel --no-deps .) and name it with --wheel"
        )
    return own.metadata


def _metadata_of(wheel: Path) -> metadata.PackageMetadata:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            told = HeaderParser().parsestr(archive.read(name).decode())
    except (OSError, zipfile.BadZipFile, StopIteration, UnicodeDecodeError) as error:
        raise BadSettings(f"{wheel} is no wheel that can be read: {error}") from error
    if not _WHEEL.fullmatch(wheel.name) or _canonical(str(told["Name"])) != OURSELVES:
        raise BadSettings(f"{wheel} is not the wheel of Foretell (foretell-…-py3-none-any.whl)")
    return told  # type: ignore[return-value]  # a Message is what metadata itself gives


def _check_extras(extras: Iterable[str], known: Iterable[str]) -> None:
    for extra in extras:
        if extra not in known:
            raise BadSettings(f"Foretell has no extra {extra!r}, there are {', '.join(known)}")


def _needs(lines: Iterable[str], extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """The distributions of `lines` of metadata that apply, each with its own extras."""
    from packaging.requirements import Requirement

    needed = []
    for line in lines:
        told = Requirement(line)
        marker = told.marker
        if marker is None or any(
            marker.evaluate({**_LINUX, "extra": extra}) for extra in extras or {""}
        ):
            needed.append((_canonical(told.name), frozenset(told.extras)))
    return needed


def _installed(name: str) -> metadata.Distribution:
    for known in (name, _SAME_LIBRARY.get(name)):
        if known is not None:
            try:
                return metadata.distribution(known)
            except metadata.PackageNotFoundError:
                continue
    raise MissingExtra(
        f"the image needs {name}, which is not installed here, so its version is unknown; "
        f"install it: pip install {name}"
    )


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
