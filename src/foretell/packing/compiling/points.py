"""Points are rows to compare two models on: where they may differ, not only where data lies.

Kinds, each a batch that the signature accepts:

- `sample`      rows as they were given
- `perturbed`   the same with numbers moved by up to a part in a hundred, or by whole spreads
- `shuffled`    every column as in another row of the sample: values that never met, and ties
- `thresholds`  rows of the sample with one number at a threshold of a tree, or a few
                representable float32 and float64 steps beside it, mapped back through scalers
- `missing`     rows with fields left out, where that is allowed
- `unseen`      rows with unknown categories and odd texts, where that is allowed
- `extreme`     rows with the greatest numbers the fields take, zeros, and the smallest ones
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.packing.compiling.drawing.graph import Cut, Origin

_SAMPLE_ROWS = 300
_PERTURBED_ROWS = 300
_SHUFFLED_ROWS = 1000
_CUTS = 100
_OTHER_ROWS = 60
_HALF_STEPS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
_STEPS = (0, -1, 1, 3)
_ODD_TEXTS = ("", " ", "\u00fc\u4e2d", "nan", "None")


@dataclass(frozen=True, slots=True)
class Points:
    """Kind -> a batch of that kind; a kind with no rows is left out."""

    batches: dict[str, Batch]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows of each kind."""
        return {kind: batch.n_rows for kind, batch in self.batches.items()}


def points(sample: Batch, cuts: Sequence[Cut], seed: int) -> Points:
    """Rows of every kind around the rows of `sample`, the same for the same `seed`."""
    random = np.random.default_rng(seed)
    fields = sample.fields
    rows = np.arange(sample.n_rows)
    if sample.n_rows > _SAMPLE_ROWS:
        rows = np.sort(random.choice(rows, _SAMPLE_ROWS, replace=False))
    base = [column[rows] for column in sample.columns]
    made = {
        "sample": base,
        "perturbed": _perturbed(base, fields, random),
        "shuffled": _shuffled(base, random),
        "thresholds": _adjacent(base, fields, cuts, random),
        "missing": _missing(base, fields, random),
        "unseen": _unseen(base, fields, random),
        "extreme": _extreme(base, fields, random),
    }
    return Points(
        {kind: Batch.from_columns(fields, columns) for kind, columns in made.items() if columns}
    )


def _drawn(base: list[Array], n_rows: int, random: np.random.Generator) -> list[Array]:
    rows = random.integers(0, len(base[0]), n_rows)
    return [column[rows].copy() for column in base]


def _shuffled(base: list[Array], random: np.random.Generator) -> list[Array]:
    if len(base) < 2:
        return []
    return [column[random.integers(0, len(column), _SHUFFLED_ROWS)] for column in base]


def fitted(field: Field, values: Array) -> Array:
    """Numbers as `field` takes them: in its dtype, within its bounds, whole where it asks."""
    low, high = field.bounds
    with np.errstate(all="ignore"):
        wide = np.clip(np.asarray(values, dtype=np.float64), low, high)
        if field.datatype.is_integer:
            wide = np.round(wide)
        cast = wide.astype(field.datatype.numpy)
    least, most = (field.datatype.numpy.type(edge) for edge in (low, high))
    return np.asarray(np.clip(cast, least, most))


def _numeric(fields: Sequence[Field]) -> list[int]:
    return [
        place
        for place, field in enumerate(fields)
        if field.datatype.is_numeric and not field.shape and not field.closed
    ]


def _perturbed(
    base: list[Array], fields: Sequence[Field], random: np.random.Generator
) -> list[Array]:
    columns = _drawn(base, _PERTURBED_ROWS, random)
    half = _PERTURBED_ROWS // 2
    for place in _numeric(fields):
        numbers = np.asarray(columns[place], dtype=np.float64)
        spread = float(np.nanstd(np.asarray(base[place], dtype=np.float64))) or 1.0
        if not np.isfinite(spread):
            spread = 1.0
        numbers[:half] *= 1.0 + random.uniform(-0.01, 0.01, half)
        numbers[half:] += random.normal(0.0, spread, len(numbers) - half)
        columns[place] = fitted(fields[place], numbers)
    for place, field in enumerate(fields):
        if field.categories and not field.shape:
            some = random.integers(0, len(field.categories), half)
            picked = [field.categories[n] for n in some]
            columns[place][:half] = np.array(picked, dtype=field.datatype.numpy)
    return columns


def _adjacent(
    base: list[Array], fields: Sequence[Field], cuts: Sequence[Cut], random: np.random.Generator
) -> list[Array]:
    open_to = set(_numeric(fields))
    chosen = [cut for cut in cuts if cut.origin.column in open_to]
    if not chosen:
        return []
    if len(chosen) > _CUTS:
        chosen = [chosen[n] for n in random.choice(len(chosen), _CUTS, replace=False)]
    raw = [_beside(cut) for cut in chosen]
    columns = _drawn(base, sum(map(len, raw)), random)
    start = 0
    for cut, values in zip(chosen, raw, strict=True):
        stop = start + len(values)
        for origin, low, high in cut.path:
            if origin.column in open_to and origin.scale:
                part = columns[origin.column][start:stop]
                part[:] = fitted(fields[origin.column], _between(origin, low, high, part))
        column = cut.origin.column
        columns[column][start:stop] = fitted(fields[column], values)
        start = stop
    return columns


def _between(origin: Origin, low: float, high: float, values: Array) -> Array:
    """`values` where their images are in (low, high], else one whose image is."""
    numbers = values.astype(np.float64)
    images = numbers * origin.scale + origin.offset
    if np.isfinite(low) and np.isfinite(high):
        inside = low + (high - low) / 2
    else:
        edge = low if np.isfinite(low) else high
        inside = edge + (1 if edge == low else -1) * max(abs(edge), 1.0) / 100
    good = (images > low) & (images <= high)
    return np.where(good, numbers, (inside - origin.offset) / origin.scale)


def _beside(cut: Cut) -> Array:
    """Raw values whose image is the threshold or a few representable steps beside it."""
    images = []
    if cut.single:
        step = float(np.spacing(np.float32(abs(cut.threshold)))) / 2
        middle = float(np.float32(cut.threshold))
        images += [middle + half * step for half in _HALF_STEPS]
    images.append(cut.threshold)
    images += [float(np.nextafter(cut.threshold, edge)) for edge in (-np.inf, np.inf)]
    raw = (np.array(images) - cut.origin.offset) / cut.origin.scale
    ulp = np.spacing(np.abs(raw))
    return np.concatenate([raw + count * ulp for count in _STEPS])


def _missing(
    base: list[Array], fields: Sequence[Field], random: np.random.Generator
) -> list[Array]:
    places = [place for place, field in enumerate(fields) if field.nullable and not field.shape]
    if not places:
        return []
    n_rows = max(_OTHER_ROWS, 2 * len(places))
    columns = _drawn(base, n_rows, random)
    gone = random.random((n_rows, len(places))) < 0.3
    gone[: len(places)] |= np.eye(len(places), dtype=bool)
    gone[len(places)] = True
    for spot, place in enumerate(places):
        blank: Any = np.nan if fields[place].datatype.is_float else None
        columns[place][gone[:, spot]] = blank
    return columns


def _unseen(base: list[Array], fields: Sequence[Field], random: np.random.Generator) -> list[Array]:
    places = [
        place
        for place, field in enumerate(fields)
        if not field.closed
        and not field.shape
        and (field.datatype is Datatype.BYTES or field.categories)
    ]
    if not places:
        return []
    columns = _drawn(base, _OTHER_ROWS, random)
    for place in places:
        field = fields[place]
        hit = random.random(_OTHER_ROWS) < 0.5
        if field.datatype is Datatype.BYTES:
            known = [str(value) for value in field.categories or ("",)]
            odd = [*_ODD_TEXTS, *(f"{text} " for text in known), *(text.upper() for text in known)]
            picked = [odd[n] for n in random.integers(0, len(odd), int(hit.sum()))]
            columns[place][hit] = np.array([*picked, None], dtype=object)[:-1]
        elif field.datatype.is_numeric:
            far = max(float(value) for value in field.categories or (0,)) + 1.5
            columns[place][hit] = fitted(field, np.full(int(hit.sum()), far))
    return columns


def _extreme(
    base: list[Array], fields: Sequence[Field], random: np.random.Generator
) -> list[Array]:
    numeric = _numeric(fields)
    if not numeric:
        return []
    columns = _drawn(base, _OTHER_ROWS, random)
    for place in numeric:
        low, high = fields[place].bounds
        edges = np.array([low, high, 0.0, -0.0, 1e-40, -1e-35, 1.0, -1.0, low / 2, high / 2])
        hit = random.random(_OTHER_ROWS) < random.choice([0.05, 0.3, 0.9])
        chosen = edges[random.integers(0, len(edges), int(hit.sum()))]
        columns[place][hit] = fitted(fields[place], chosen)
    return columns
