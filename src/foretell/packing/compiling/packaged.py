"""A compiled package runs one `onnx` step; the originals stay in it, listed but never opened.

Where there is a form for many rows, that is its `bulk` step, whatever its steps are.

They are kept so that the package can be audited and compiled again. Its `libraries` are those
of the graph; what the originals need stands in the compile report under `original`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from foretell.core.batch import Batch
from foretell.core.manifest import Artifact, Manifest, Step
from foretell.errors import MissingExtra
from foretell.packing.compiling.bulk import TREES, BulkForm
from foretell.packing.compiling.compiled import MODEL, Compiled, compile_chain, refused
from foretell.packing.libraries import libraries_of
from foretell.runtimes import load
from foretell.runtimes.loading import open_stages


def compiled_package(manifest: Manifest, sample: Batch, folder: Path) -> Manifest:
    """`manifest` with its compile report, and with an `onnx` step when a graph won.

    `sample` is a batch that the package in `folder` answers. The graph is written there and
    loaded once as a server will. Whatever stops the compiling, onnx not being installed for one,
    is the report's reason, and the original is served.
    """
    try:
        made = _compiled(manifest, sample, folder)
    except MissingExtra as error:
        return replace(manifest, compile_report=refused(error.message))
    except Exception as error:  # noqa: BLE001  the original serves: the report tells what failed
        told = str(error).strip().splitlines()
        reason = f"compiling failed: {type(error).__name__}: {told[0] if told else ''}"
        return replace(manifest, compile_report=refused(reason))
    compiled = replace(manifest, compile_report=made.report)
    if made.model is not None:
        path = _free(MODEL, manifest)
        steps = (Step("onnx", (path,), made.options),)
        compiled = replace(
            compiled,
            steps=steps,
            files=(*manifest.files, _written(made.model, folder, path)),
            libraries=libraries_of(steps, open_stages(steps, folder, trusted=False)),
            compile_report={**made.report, "original": _told(manifest)},
        )
    if made.bulk is not None:
        compiled = _with_bulk(compiled, made.bulk, folder)
    if compiled.steps is not manifest.steps:
        load(Manifest.from_text(compiled.to_text()), folder).predict(sample.slice(0, 1))
    return compiled


def _with_bulk(manifest: Manifest, form: BulkForm, folder: Path) -> Manifest:
    """`manifest` with the form for many rows, written to `folder`."""
    named = {_free(name, manifest): data for name, data in form.files.items()}
    written = [_written(data, folder, name) for name, data in named.items()]
    step = Step(TREES, tuple(named), form.options)
    return replace(manifest, bulk=step, files=(*manifest.files, *written))


def _free(name: str, manifest: Manifest) -> str:
    """`name`, or another where a file of the package has it."""
    taken = {artifact.path for artifact in manifest.files}
    return name if name not in taken else f"compiled-{name}"


def _compiled(manifest: Manifest, sample: Batch, folder: Path) -> Compiled:
    stages = open_stages(manifest.steps, folder, trusted=manifest.trusted)
    return compile_chain(stages, manifest.signature, manifest.steps[0].options, sample)


def _written(model: bytes, folder: Path, path: str) -> Artifact:
    with (folder / path).open("xb") as stream:
        stream.write(model)
        stream.flush()
        os.fsync(stream.fileno())
    return Artifact(path, hashlib.sha256(model).hexdigest(), len(model))


def _told(manifest: Manifest) -> dict[str, Any]:
    """The steps and libraries of the originals."""
    return {
        "steps": [
            {"runtime": step.runtime, "files": list(step.files), "options": dict(step.options)}
            for step in manifest.steps
        ],
        "libraries": dict(manifest.libraries),
    }
