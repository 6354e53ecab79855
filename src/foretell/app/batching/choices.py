"""Choices are everything one can say about a batch job, in one frozen record.

`[batch]` in the settings file, FORETELL_BATCH_* in the environment, flags of `foretell batch`,
keywords of `foretell.batch`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from foretell.app.settings import Readable
from foretell.transports.batch.job import BatchOptions


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class BatchSettings(Readable):
    """How a job runs, and what it writes."""

    table: ClassVar[str | None] = "batch"

    columns: Annotated[
        tuple[str, ...],
        Field(description="The column that an input is to take, where their names differ"),
    ] = ()
    keep: Annotated[
        tuple[str, ...] | None,
        Field(description="The columns that go to the output, with commas; '' for none [all]"),
    ] = None
    probabilities: Annotated[
        Literal["positive", "all", "none"],
        Field(description="Of two classes that of the second one, or of all, or of none"),
    ] = "positive"
    on_bad_row: Annotated[
        Literal["fail", "skip", "quarantine"],
        Field(description="End there, leave it out, or write it apart with what is wrong"),
    ] = "fail"
    batch_rows: Annotated[
        int | None, Field(ge=1, description="Rows that are scored at once [4 to 16 MiB of them]")
    ] = None
    part_rows: Annotated[
        int, Field(ge=1, description="Rows of a part: what is committed, and resumed, at once")
    ] = 1_000_000
    threads: Annotated[
        int, Field(ge=1, le=1024, description="Workers that read, score and write at once")
    ] = Field(default_factory=_usable_cores)
    limit: Annotated[int | None, Field(ge=1, description="Only so many of the first rows")] = None
    format: Annotated[
        Literal["parquet", "csv", "ndjson", "arrow"] | None,
        Field(description="The form of the files in a folder [parquet]"),
    ] = None
    compression: Annotated[
        str | None,
        Field(description="zstd, snappy, lz4, gzip, none … [snappy for Parquet, else none]"),
    ] = None
    row_group_rows: Annotated[
        int, Field(ge=1, description="The most rows of a Parquet row group")
    ] = 131_072
    engine: Annotated[
        Literal["local", "ray", "spark"],
        Field(description="What runs it: this process, a Ray cluster, or a Spark cluster"),
    ] = "local"
    ray_address: Annotated[
        str | None, Field(description="The Ray cluster: auto, or HOST:PORT [one on this machine]")
    ] = None
    spark_master: Annotated[
        str | None, Field(description="The Spark cluster [as spark-submit or its settings say]")
    ] = None
    overwrite: Annotated[
        bool, Field(description="Remove what another job has written to the output")
    ] = False
    metrics_file: Annotated[
        Path | None, Field(description="Write metrics for Prometheus' node exporter there")
    ] = None
    pushgateway: Annotated[
        str | None, Field(description="The URL of a Prometheus Pushgateway to send metrics to")
    ] = None

    @field_validator("columns", "keep", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Text may name several, with commas between them; a list has names as they are."""
        if isinstance(value, str):
            return tuple(part for part in value.split(",") if part)
        return value

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            name, equals, column = word.partition("=")
            if not (name and equals and column):
                raise ValueError(
                    f"{word!r} is no mapping; take INPUT=COLUMN, as in age=customer_age"
                )
        names = [word.partition("=")[0] for word in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice!r} takes one column; name it once")
        return value

    def options(self) -> BatchOptions:
        """The part of it that the job itself needs."""
        pairs = (word.partition("=") for word in self.columns)
        return BatchOptions(
            columns={name: column for name, _, column in pairs},
            keep=self.keep,
            probabilities=self.probabilities,
            on_bad_row=self.on_bad_row,
            batch_rows=self.batch_rows,
            part_rows=self.part_rows,
            threads=self.threads,
            limit=self.limit,
            format=self.format,
            compression=self.compression,
            row_group_rows=self.row_group_rows,
            overwrite=self.overwrite,
        )
