"""A bulk form is a graph cut at its trees: the files of a `trees` step, for many rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.core.servable import Servable
from foretell.core.signature import Signature
from foretell.packing.compiling.splitting import split
from foretell.runtimes.stages import Chain, StageFiles
from foretell.runtimes.trees.stage import open_stage

TREES = "trees"
_BEFORE, _TABLE, _AFTER = "bulk-before.onnx", "bulk-trees.npz", "bulk-after.onnx"


@dataclass(frozen=True, slots=True)
class BulkForm:
    """The files of a `trees` step by name, in order, and its options."""

    files: Mapping[str, bytes]
    options: Mapping[str, Any]

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(map(len, self.files.values()))


def bulk_form(model: bytes, options: Mapping[str, Any]) -> BulkForm:
    """The bulk form of `model`, whose `onnx` step has `options`. Raises Unfaithful."""
    parts = split(model, options)
    front = {} if parts.before is None else {_BEFORE: parts.before}
    files = {**front, _TABLE: parts.table.to_bytes(), _AFTER: parts.after}
    return BulkForm(files, parts.options)


def opened(form: BulkForm, signature: Signature, folder: Path) -> Servable:
    """`form` as a server loads it, written to `folder`. Raises BadPackage and MissingExtra."""
    for name, data in form.files.items():
        (folder / name).write_bytes(data)
    stage = open_stage(StageFiles(folder, tuple(form.files), form.options))
    return Chain(signature, (stage,), form.options)
