"""Made rows are what a load test sends when nobody gives it a sample: from the signature alone.

Rules:

1. Numbers lie around the signature's example, within half of it, or about 0 without one; never
   outside the bounds. Categories and booleans are drawn evenly, texts are the example's.
2. Numbers have four digits, as people's do: seventeen would make JSON look larger than it is.
3. The same seed makes the same rows.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from foretell.codecs.asking.rows import batch_of
from foretell.core.batch import Batch
from foretell.core.field import Datatype, Field
from foretell.core.signature import Signature

_DIGITS = 4


def made(signature: Signature, count: int, *, seed: int = 0) -> Batch:
    """`count` accepted rows. Raises InvalidInput when the signature takes none that are made."""
    draw = random.Random(seed)  # noqa: S311 - no secrets, the same rows each time
    examples = signature.example or (None,) * len(signature.inputs)
    fields = list(zip(signature.inputs, examples, strict=True))
    rows = [[_value(field, example, draw) for field, example in fields] for _ in range(count)]
    return batch_of(signature, rows)


def _value(field: Field, example: Any, draw: random.Random) -> Any:
    if not field.shape:
        return _scalar(field, example, draw)
    like = np.asarray(example, dtype=object) if example is not None else None
    shape = tuple(
        size if size > 0 else (1 if like is None else like.shape[axis])
        for axis, size in enumerate(field.shape)
    )
    values = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        values[place] = _scalar(field, None if like is None else like[place], draw)
    return values.tolist()


def _scalar(field: Field, example: Any, draw: random.Random) -> Any:
    if field.categories:
        return draw.choice(field.categories)
    if field.datatype is Datatype.BOOL:
        return draw.random() < 0.5
    if field.datatype is Datatype.BYTES:
        return "text" if example is None else example
    low, high = field.bounds
    middle = 0.0 if example is None else float(example)
    value = middle + draw.uniform(-0.5, 0.5) * (abs(middle) or 2.0)
    value = float(f"{value:.{_DIGITS}g}")
    if field.datatype.is_integer:
        return int(min(max(round(value), low), high))
    return min(max(value, low), high)
