"""Servers of a model that fails when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foretell.packing import pack
from tests.servers import Server, running


@dataclass(frozen=True)
class Served:
    """A running server of the model `faulty`, and the file that is its fault."""

    server: Server
    fault: Path

    @property
    def url(self) -> str:
        return self.server.url


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Served]:
    """A server of the model, whose files are in `folder`."""
    fault = folder / "fault"
    (folder / "place.txt").write_text(str(fault))
    code = Path(__file__).parent
    repository = folder / "models"
    files: list[str | Path] = ["faulty_model:Faulty", folder / "place.txt"]
    pack(files, name="faulty", repository=repository, python_path=code)
    with running(repository, *arguments) as server:
        yield Served(server, fault)
