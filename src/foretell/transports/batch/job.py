"""A job is one data set to be scored by one version, and all that decides what comes out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from foretell.transports.batch.dataset import Source, some_of
from foretell.transports.batch.storage.clouds import is_url

Probabilities = Literal["all", "positive", "none"]
OnBadRow = Literal["fail", "skip", "quarantine"]
_MOST_TOLD = 5
_OF_A_RUN = ("threads", "batch_rows", "overwrite")
"""The options that another run of the same job may choose anew."""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What one can choose about a job's output."""

    columns: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] | None = None
    probabilities: Probabilities = "positive"
    on_bad_row: OnBadRow = "fail"
    batch_rows: int | None = None
    part_rows: int = 1_000_000
    threads: int = 1
    limit: int | None = None
    format: str | None = None
    compression: str | None = None
    row_group_rows: int = 131_072
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What identifies a job, and `predicted_at`, which is that of its first run."""

    sources: tuple[Source, ...]
    model: str
    version: str
    digest: str
    options: BatchOptions
    predicted_at: str
    bulk: bool = False
    """Whether the model's bulk form answers: measured once, and kept when the job goes on."""


def described(job: Job) -> dict[str, Any]:
    """JSON-ready; without what every run may choose anew."""
    told = asdict(job)
    for name in _OF_A_RUN:
        told["options"].pop(name)
    for source in told["sources"]:
        if not is_url(source["path"]):
            source["path"] = os.path.abspath(source["path"])
    return told


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two described jobs, a few words for each thing."""
    if (was := _version(old)) != (now := _version(new)):
        yield f"the model is {now}, but was {was}"
    elif old.get("digest") != new.get("digest"):
        yield f"{now} was packed anew and is another model"
    yield from _files(old.get("sources", ()), new.get("sources", ()))
    was, now = old.get("options", {}), new.get("options", {})
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            flag = name.replace("_", "-")
            yield f"--{flag} is {_said(now.get(name))}, but was {_said(was.get(name))}"


def _version(told: Mapping[str, Any]) -> str:
    return f"{told.get('model')} {told.get('version')}"


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        value = [f"{name}={column}" for name, column in value.items()]
    if isinstance(value, list):
        return ",".join(map(str, value)) or "empty"
    return "not given" if value is None else str(value)


def _files(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    before = {told["path"]: told for told in old}
    after = {told["path"]: told for told in new}
    yield from _some([path for path in after if path not in before], "is new", "are new")
    yield from _some([path for path in before if path not in after], "is gone", "are gone")
    changed = [path for path in after if path in before and after[path] != before[path]]
    yield from _some(changed, "was written anew", "were written anew")


def _some(paths: Sequence[str], one: str, many: str) -> Iterator[str]:
    if paths:
        yield f"{some_of(paths, _MOST_TOLD)} {one if len(paths) == 1 else many}"
