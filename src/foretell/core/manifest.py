"""A manifest is what a package says about itself: `model.json`.

Rules:

1. A package is a folder `<repository>/<model>/<version>/` with `model.json` and artifact files.
2. `steps` run in order: each step but the last transforms, the last one predicts. A step
   names its runtime and its artifacts, relative to the package. `bulk`, where there is one, is
   one step that answers as all of them do, and is quicker for many rows.
3. Every artifact is listed with its SHA-256 and size; what is not listed is not read.
4. Names and versions are free strings of letters, digits and `._+-`, starting with a letter
   or digit, so that they are safe in paths, URLs and metric labels.
5. Unknown keys are refused: a newer `schema_version` may mean something we would miss.
6. Every value has its one type, and no name has a control character: whatever else stands there
   is a BadPackage, never guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from foretell.core.described import (
    as_bool,
    as_list,
    as_name,
    as_object,
    as_time,
    as_whole,
)
from foretell.core.rolling.windows import Windows
from foretell.core.signature import Signature
from foretell.errors import BadPackage

FILENAME = "model.json"
SCHEMA_VERSION = 1

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")
_HEX_DIGITS = frozenset("0123456789abcdef")


def check_name(name: str, what: str) -> str:
    """`name`, if it may stand in a path and a URL. Raises BadPackage saying what may."""
    if not isinstance(name, str):
        raise BadPackage(f"{what} {name!r} is not usable: it must be a string")
    if not (0 < len(name) <= 128 and name[0].isalnum() and _NAME_CHARACTERS.issuperset(name)):
        raise BadPackage(
            f"{what} {name!r} is not usable: take up to 128 letters, digits and . _ + -, "
            "starting with a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a package: its path relative to the package, digest and size in bytes."""

    path: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if self.path.startswith("/") or "\\" in self.path or {"", ".", ".."} & set(parts):
            raise BadPackage(f"artifact path {self.path!r} leaves the package")
        as_name(self.path, "artifact path")


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a model: a runtime, the artifact paths it reads, and its options."""

    runtime: str
    files: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package says about itself.

    `created_at` is RFC 3339 in UTC; `libraries` maps distribution names to the versions the
    package was made with; `trusted` records that `--trust` was given; `compile_report` and
    `baseline` are None until compilation and drift fill them. `windows` are the inputs
    that a stream fills from the recent past.
    """

    name: str
    version: str
    created_at: str
    signature: Signature
    steps: tuple[Step, ...]
    files: tuple[Artifact, ...]
    libraries: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False
    compile_report: Mapping[str, Any] | None = None
    baseline: Mapping[str, Any] | None = None
    bulk: Step | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    windows: Windows | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "model name")
        check_name(self.version, "version")
        if self.windows is not None:
            self.windows.check(self.signature.inputs)
        if not self.steps:
            raise BadPackage(f"package {self.name} {self.version} has no steps")
        listed = {artifact.path for artifact in self.files}
        for step in (*self.steps, *((self.bulk,) if self.bulk else ())):
            for path in step.files:
                if path not in listed:
                    raise BadPackage(f"step {step.runtime!r} reads {path!r}, which is not listed")

    def to_text(self) -> str:
        """The manifest as `model.json` holds it."""
        told: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        for known in fields(self):
            told[known.name] = getattr(self, known.name)
        told["signature"] = self.signature.describe()
        told["steps"] = [_told(step) for step in self.steps]
        told["bulk"] = None if self.bulk is None else _told(self.bulk)
        told["windows"] = None if self.windows is None else self.windows.describe()
        told["files"] = [
            {"path": artifact.path, "sha256": artifact.sha256, "size": artifact.size}
            for artifact in self.files
        ]
        try:
            text = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
            text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise BadPackage(f"{FILENAME} cannot hold a value of the package: {error}") from error
        return text + "\n"

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """The manifest in `text`. Raises BadPackage saying what is wrong with it."""
        try:
            told = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BadPackage(f"{FILENAME} is not JSON: {error}") from error
        if not isinstance(told, dict):
            raise BadPackage(f"{FILENAME} does not hold an object")
        schema_version = told.pop("schema_version", None)
        if isinstance(schema_version, bool) or schema_version != SCHEMA_VERSION:
            raise BadPackage(
                f"{FILENAME} has schema version {schema_version!r}; this Foretell reads "
                f"{SCHEMA_VERSION}: pack the model again, or install the Foretell that made it"
            )
        as_object(told, FILENAME, _NEEDED, [part.name for part in fields(cls)])
        for key, read in _READERS.items():
            if key in told:
                told[key] = read(told[key], f"{key!r} of {FILENAME}")
        return cls(**told)


def _told(step: Step) -> dict[str, Any]:
    return {"runtime": step.runtime, "files": step.files, "options": step.options}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _signature(told: object, what: str) -> Signature:
    signature = Signature.from_description(as_object(told, what))
    for column in (*signature.inputs, *signature.outputs):
        as_name(column.name, "the name of a field")
    return signature


def _steps(told: object, what: str) -> tuple[Step, ...]:
    return tuple(_step(step, what) for step in as_list(told, what))


def _step(told: object, what: str) -> Step:
    step = as_object(told, what, ("runtime", "files", "options"), ())
    files = as_list(step["files"], f"the files of a step in {what}")
    return Step(
        as_name(step["runtime"], f"the runtime of a step in {what}"),
        tuple(as_name(path, f"a file of a step in {what}") for path in files),
        as_object(step["options"], f"the options of a step in {what}"),
    )


def _maybe_step(told: object, what: str) -> Step | None:
    return None if told is None else _step(told, what)


def _artifacts(told: object, what: str) -> tuple[Artifact, ...]:
    read = []
    for artifact in as_list(told, what):
        as_object(artifact, what, ("path", "sha256", "size"), ())
        path = as_name(artifact["path"], f"a path in {what}")
        digest, size = artifact["sha256"], as_whole(artifact["size"], f"the size of {path}")
        if len(as_name(digest, f"the sha256 of {path}")) != 64 or set(digest) - _HEX_DIGITS:
            raise BadPackage(f"the sha256 of {path} is {digest!r}, but must be 64 hex digits")
        if size < 0:
            raise BadPackage(f"the size of {path} is {size}, but must not be negative")
        read.append(Artifact(path, digest, size))
    return tuple(read)


def _libraries(told: object, what: str) -> dict[str, str]:
    return {
        as_name(library, f"a library in {what}"): as_name(version, f"{library!r} in {what}")
        for library, version in as_object(told, what).items()
    }


def _maybe_windows(told: object, what: str) -> Windows | None:
    return None if told is None else Windows.from_description(told, what)


def _maybe_object(told: object, what: str) -> dict[str, Any] | None:
    return None if told is None else as_object(told, what)


_NEEDED = ("name", "version", "created_at", "signature", "steps", "files")
_READERS: Mapping[str, Callable[[object, str], Any]] = {
    "name": as_name,
    "version": as_name,
    "created_at": as_time,
    "signature": _signature,
    "steps": _steps,
    "files": _artifacts,
    "libraries": _libraries,
    "trusted": as_bool,
    "compile_report": _maybe_object,
    "baseline": _maybe_object,
    "bulk": _maybe_step,
    "metadata": as_object,
    "windows": _maybe_windows,
}
