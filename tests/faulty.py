"""A model in code that fails while its fault (a file) exists, and a server of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from foretell import Field, Signature
from foretell.core.field import Datatype


class Faulty:
    signature = Signature(
        (Field("x", Datatype.FP64), Field("y", Datatype.FP64)),
        (Field("prediction", Datatype.INT64),),
        example=(1.0, 2.5),
    )

    def load(self, folder: Path) -> None:
        told = next(path for path in folder.rglob("*") if path.name == "place.txt")
        self.fault = Path(told.read_text())

    def predict(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        if self.fault.exists():
            raise RuntimeError("the fault is there")
        return (columns["x"] < columns["y"]).astype(np.int64)


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[str, Path]]:
    """The URL of a server of the model `faulty`, and the file that is its fault."""
    from foretell.packing import pack
    from tests.servers import running

    fault = folder / "fault"
    (folder / "place.txt").write_text(str(fault))
    code = Path(__file__).parent
    repository = folder / "models"
    files: list[str | Path] = ["faulty:Faulty", folder / "place.txt"]
    pack(files, name="faulty", repository=repository, python_path=code)
    with running(repository, *arguments) as server:
        yield server.url, fault
