"""Limits of a result cache are what it may keep, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What one version may keep in each process: bytes, and seconds (None: without an end).

    Requests of more than `max_rows` rows go past it.
    """

    max_bytes: int = 64 * 2**20
    ttl_s: float | None = None
    max_rows: int = 1024
