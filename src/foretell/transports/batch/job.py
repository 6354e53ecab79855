"""A job is one data set to be scored by one version, and all that decides what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from foretell.transports.batch.dataset import Source

Probabilities = Literal["all", "positive", "none"]
OnBadRow = Literal["fail", "skip", "quarantine"]


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


@dataclass(frozen=True, slots=True)
class Job:
    """What identifies a job."""

    sources: tuple[Source, ...]
    model: str
    version: str
    digest: str
    options: BatchOptions
    predicted_at: str


def described(job: Job) -> dict[str, Any]:
    told = asdict(job)
    for name in ("threads", "batch_rows"):
        told["options"].pop(name)
    return told


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in ("sources", "model", "version", "digest", "options"):
        if old.get(key) != new.get(key):
            yield f"{key} changed"
