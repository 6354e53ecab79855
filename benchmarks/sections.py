"""A section is one part of the results: a title, a text, a table, and what became of its budgets.

A new kind of benchmark is a function from an `Effort` to a `Section`, and a row in run.SECTIONS.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.budgets import Verdict
from benchmarks.harness import BenchFailed
from foretell import ForetellError

M = TypeVar("M", bound="Named")
Found = TypeVar("Found")


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


class Named(Protocol):
    """What is measured; a quick run leaves it out unless it is `quick`."""

    @property
    def name(self) -> str: ...
    @property
    def quick(self) -> bool: ...


def each(
    effort: Effort, section: str, models: Iterable[M], measure: Callable[[M, Path], Found]
) -> dict[str, Found]:
    """What `measure` finds of each model, in a folder of its own. Raises BenchFailed."""
    folder, found = effort.own(section), dict[str, Found]()
    for model in models:
        if effort.quick and not model.quick:
            continue
        effort.tell(model.name)
        own = folder / str(len(found))
        own.mkdir()
        try:
            found[model.name] = measure(model, own)
        except ForetellError as error:
            raise BenchFailed(f"{model.name}: {error}") from error
    return found


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the results.

    The first `labels` columns of `rows` are words, the others numbers. `charts` are SVG texts
    by file name. `others` are shares of the server's core that went to somebody else, in per
    cent, one a measurement. `data` is what results.json keeps of it all, beside the table.
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
