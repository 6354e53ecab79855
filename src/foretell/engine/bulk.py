"""The bulk form is a package's other way to the same answers, made for many rows at a time.

Rules:

1. It is opened only when asked for: a server of single rows pays neither its memory nor its
   start. Where its extra is not installed, the plain form answers.
2. It is taken for a number of rows for which it is measured to be faster, on rows that differ:
   the example alone, repeated, would go one and the same way through every tree. Of more than
   `MOST_ROWS` each takes as long, so no more are measured. Once is enough for what is `_CLEARLY`
   faster.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foretell import runtimes
from foretell.core.batch import Batch
from foretell.core.field import Array, Field
from foretell.core.manifest import Manifest
from foretell.core.signature import Signature
from foretell.engine.executors import Predict, checked
from foretell.errors import BadPackage, InvalidInput, MissingExtra

MOST_ROWS = 8_192
_TRIES = 3
_ENOUGH_S = 0.5
_SPREAD = 0.5
_CLEARLY = 3

_log = logging.getLogger("foretell.engine")


def bulk_predict(
    manifest: Manifest, folder: Path, plain: Predict, batch_rows: int, threads: int
) -> Predict | None:
    """What answers `batch_rows` rows faster than `plain` does; None when nothing is known to.

    Raises BadPackage when the bulk form cannot be read.
    """
    if manifest.bulk is None or manifest.signature.example is None:
        return None
    try:
        bulk = bulk_form(manifest, folder, threads)
    except MissingExtra as error:
        _log.info("%s %s: %s", manifest.name, manifest.version, error.message)
        return None
    n_rows = min(batch_rows, MOST_ROWS)
    make = varied(manifest.signature, n_rows)
    try:
        by_plain, by_bulk = _seconds(plain, bulk, make)
    except Exception as error:  # noqa: BLE001 - made-up rows may be what a model raises on
        _log.info("%s %s cannot be measured: %r", manifest.name, manifest.version, error)
        return None
    _log.info(
        "%s %s answers %d rows in %.2f ms, in bulk in %.2f ms",
        manifest.name,
        manifest.version,
        n_rows,
        by_plain * 1e3,
        by_bulk * 1e3,
    )
    return bulk if by_bulk < by_plain else None


def bulk_form(manifest: Manifest, folder: Path, threads: int) -> Predict:
    """What answers by the bulk form. Raises BadPackage, also when there is none, MissingExtra."""
    servable = runtimes.load_bulk(manifest, folder, threads=threads)
    if servable is None:
        raise BadPackage(f"{manifest.name} {manifest.version} has no form for many rows")
    return checked(servable.predict, manifest.signature.outputs)


def varied(signature: Signature, n_rows: int) -> Callable[[], Batch]:
    """What makes a new batch of `n_rows` rows: the example, and numbers around its numbers."""
    random = np.random.default_rng(0)
    fields = signature.inputs
    example = signature.example or ()
    rows = Batch.from_rows(fields, [example])
    columns = [
        _around(field, np.repeat(column, n_rows, axis=0), random)
        for field, column in zip(fields, rows.columns, strict=True)
    ]
    return lambda: Batch.from_columns(fields, columns)


def _around(field: Field, column: Array, random: np.random.Generator) -> Array:
    """`column` with other values where `field` accepts them."""
    if not field.datatype.is_numeric or field.closed:
        return column
    moved = column * (1 + _SPREAD * random.standard_normal(column.shape))
    moved += _SPREAD * random.standard_normal(column.shape)
    if field.datatype.is_integer:
        moved = np.rint(moved if column.dtype.kind == "i" else np.abs(moved))
    if field.minimum is not None or field.maximum is not None:
        moved = np.clip(moved, field.minimum, field.maximum)
    try:
        return field.accept_column(moved.astype(column.dtype))
    except InvalidInput:
        return column


def _seconds(plain: Predict, bulk: Predict, make: Callable[[], Batch]) -> list[float]:
    """The best time of one call of each, in turns: what else is busy here only slows down."""
    best = [float("inf"), float("inf")]
    began = time.perf_counter()
    for _ in range(_TRIES):
        for place, predict in enumerate((plain, bulk)):
            batch = make()
            before = time.perf_counter()
            predict(batch)
            best[place] = min(best[place], time.perf_counter() - before)
        clear = best[0] > _CLEARLY * best[1]
        if clear or time.perf_counter() - began > _ENOUGH_S:
            break
    return best
