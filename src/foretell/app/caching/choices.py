"""The choices of a result cache: `[models.NAME.cache]` in the settings file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CacheUrl = Annotated[
    str | None,
    Field(
        repr=False,
        description="The Redis of caches, redis:// or rediss://; others see flags, so rather set "
        "FORETELL_CACHE_URL if it has a password",
    ),
]


class CacheSettings(BaseModel):
    """How the answers of one model are kept; there are none without."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Annotated[
        Literal["memory", "redis", "tiered"],
        Field(description="Where answers are: each worker's memory, Redis, or both"),
    ]
    url: Annotated[
        str | None, Field(repr=False, description="The Redis of this cache instead of cache_url")
    ] = None
    timeout_ms: Annotated[
        float, Field(gt=0, le=1000, description="How long Redis may take before the model is asked")
    ] = 5.0
    max_bytes: Annotated[
        int, Field(ge=2**16, description="What a worker keeps of each version, in bytes of memory")
    ] = 64 * 2**20
    ttl_s: Annotated[
        float | None, Field(gt=0, description="How long an answer is kept; no end unless set")
    ] = None
    max_rows: Annotated[int, Field(ge=1, description="Requests of more rows go past the cache")] = (
        1024
    )


class ModelSettings(BaseModel):
    """What is set for one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Annotated[
        CacheSettings | None, Field(description="How its answers are kept, if at all")
    ] = None
