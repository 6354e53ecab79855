"""Choices are everything one can say about a load test, in one frozen record.

`[loadtest]` in the settings file, FORETELL_LOADTEST_* in the environment, and flags.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from foretell.app.settings import Readable, nearest
from foretell.loadtest.payloads import Protocol
from foretell.loadtest.running import Plan

CLOSED, OPEN = 32, 1024


class LoadSettings(Readable):
    """What is sent, how often, for how long, and what is too slow."""

    table: ClassVar[str | None] = "loadtest"

    protocol: Annotated[
        Literal["rest", "grpc", "grpc-infer", "binary", "arrow"] | None,
        Field(description="What rows travel in [rest; at grpc:// URLs, grpc]"),
    ] = None
    compare: Annotated[
        tuple[str, ...],
        Field(description="Protocols to measure one after another, with commas between them"),
    ] = ()
    rows: Annotated[int, Field(ge=1, le=1_000_000, description="Rows in each request")] = 1
    sample: Annotated[
        Path | None,
        Field(
            description="Send the rows of this file, .csv, .parquet, .ndjson or .json "
            "[made from the model's signature]"
        ),
    ] = None
    rate: Annotated[
        float | None,
        Field(
            gt=0,
            le=1_000_000,
            description="Open loop: so many requests a second, whatever the server does "
            "[closed loop: each answer sends the next request]",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000,
            description=f"Requests under way: always in a closed loop [{CLOSED}], at most in an "
            f"open one [{OPEN}]",
        ),
    ] = None
    duration_s: Annotated[float, Field(ge=0.1, le=86_400, description="How long is measured")] = (
        10.0
    )
    warmup_s: Annotated[
        float, Field(ge=0, le=3600, description="How long is sent before, and not counted")
    ] = 2.0
    timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="How long a request may take, and what is under way at the end",
        ),
    ] = 10.0
    max_p99_ms: Annotated[
        float | None, Field(gt=0, description="Exit with 1 when the 99th percentile is higher")
    ] = None
    max_error_ratio: Annotated[
        float, Field(ge=0, le=1, description="Exit with 1 when a greater share of requests fails")
    ] = 0.01
    html: Annotated[
        Path | None, Field(description="Write a report there, one file that needs no other")
    ] = None
    api_key: Annotated[
        str | None,
        Field(
            repr=False,
            description="Sent as a bearer token; others see flags, so rather set "
            "FORETELL_LOADTEST_API_KEY",
        ),
    ] = None
    cafile: Annotated[
        Path | None, Field(description="PEM certificates of the authorities to trust over TLS")
    ] = None

    @field_validator("compare", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Text may name several, with commas between them."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("compare")
    @classmethod
    def _check_protocols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if word not in list(Protocol):
                hint = nearest(word, [known.value for known in Protocol])
                raise ValueError(f"{word!r} is none of {', '.join(Protocol)}{hint}")
        if len(set(value)) < len(value):
            raise ValueError("a protocol stands in it twice")
        return value

    def protocols(self, url: str) -> list[Protocol]:
        """Those to measure at this URL, in order."""
        usual = Protocol.GRPC if url.startswith("grpc") else Protocol.REST
        return [Protocol(word) for word in self.compare or (self.protocol or usual,)]

    @property
    def plan(self) -> Plan:
        """How each of them is run."""
        return Plan(
            rate=self.rate,
            concurrency=self.concurrency or (CLOSED if self.rate is None else OPEN),
            duration_s=self.duration_s,
            warmup_s=self.warmup_s,
            timeout_s=self.timeout_s,
        )
