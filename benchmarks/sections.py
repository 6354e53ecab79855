"""A section is one part of the results: a title, a text, a table, and what became of its budgets.

A new kind of benchmark is a function from an `Effort` to a `Section`, and a row in run.SECTIONS.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.budgets import Verdict


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a run measures. `servers` None: all; `folder` is the run's own, for files."""

    rounds: int
    seconds: int
    connections: tuple[int, ...]
    quick: bool
    folder: Path
    tell: Callable[[str], None]
    servers: tuple[str, ...] | None = None

    def own(self, section: str) -> Path:
        """A new folder for one section's files."""
        folder = self.folder / section
        folder.mkdir()
        return folder


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the results.

    The first `labels` columns of `rows` are words, the others numbers. `charts` are SVG texts
    by file name. `others` are shares of the server's core that went to somebody else, in per
    cent, one a measurement. `data` is what results.json keeps of it all, JSON-ready.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[Verdict] = ()
    labels: int = 2
    charts: Mapping[str, str] = field(default_factory=dict)
    others: Sequence[float] = ()
    data: Any = None


def kept(medians: Sequence[Any], measured: Sequence[Any]) -> dict[str, Any]:
    """The `data` of a section whose rounds are dataclasses: their medians, and each."""
    return {"medians": [asdict(one) for one in medians], "measured": [asdict(m) for m in measured]}
