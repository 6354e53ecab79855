"""A data set is the files of a job's input."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

from foretell.errors import InvalidInput


class Form(StrEnum):
    PARQUET = "parquet"
    CSV = "csv"
    NDJSON = "ndjson"
    ARROW = "arrow"


_FORMS = {
    ".parquet": Form.PARQUET,
    ".pq": Form.PARQUET,
    ".csv": Form.CSV,
    ".ndjson": Form.NDJSON,
    ".jsonl": Form.NDJSON,
    ".arrow": Form.ARROW,
    ".feather": Form.ARROW,
    ".ipc": Form.ARROW,
}


@dataclass(frozen=True, slots=True)
class Source:
    path: str
    size: int
    stamp: str
    form: Form
    partition: tuple[tuple[str, str], ...]

    def open(self) -> BinaryIO:
        if self.path.endswith(".gz"):
            return cast("BinaryIO", gzip.open(self.path, "rb"))
        return open(self.path, "rb")


def find(place: str) -> tuple[Source, ...]:
    path = Path(place)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = []
    for file in files:
        inner = file.relative_to(path).parts[:-1] if path.is_dir() else ()
        suffix = Path(file.name.removesuffix(".gz")).suffix
        if suffix not in _FORMS or any(p.startswith(("_", ".")) for p in (*inner, file.name)):
            continue
        stat = file.stat()
        partition = tuple(tuple(p.split("=", 1)) for p in inner if "=" in p)
        found.append(
            Source(str(file), stat.st_size, str(stat.st_mtime_ns), _FORMS[suffix], partition)
        )
    if not found:
        raise InvalidInput(f"{place} has no files")
    return tuple(found)
