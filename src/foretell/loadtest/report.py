"""A report is all results of a load test, for programs and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foretell.loadtest.page import page_of
from foretell.loadtest.results import Result


@dataclass(frozen=True, slots=True)
class Report:
    """What was asked, when, by whom, and what came of it in each protocol."""

    url: str
    model: str
    version: str | None
    began: str
    generator: str
    results: Sequence[Result]

    def describe(self) -> dict[str, Any]:
        """All of it as JSON-ready data."""
        return {
            "url": self.url,
            "model": self.model,
            "version": self.version,
            "began": self.began,
            "generator": self.generator,
            "results": [result.describe() for result in self.results],
        }

    def refusals(self, max_p99_ms: float | None, max_error_ratio: float) -> list[str]:
        """Which thresholds were broken, in words."""
        told = (result.refusals(max_p99_ms, max_error_ratio) for result in self.results)
        return [words for words_of_one in told for words in words_of_one]

    def html(self) -> str:
        """One page that needs no other file."""
        plan, rows = self.results[0].plan, self.results[0].payload.rows
        loop = (
            f"closed loop, {plan.concurrency} requests under way"
            if plan.rate is None
            else f"open loop, {plan.rate:,g} requests/s"
        )
        about = (
            self.began,
            loop,
            f"{rows:,} {'row' if rows == 1 else 'rows'} a request",
            f"{plan.duration_s:g} s after {plan.warmup_s:g} s of warm-up",
            f"generator: {self.generator}",
        )
        version = "" if self.version is None else f" {self.version}"
        return page_of(f"{self.model}{version} at {self.url}", about, self.results)
