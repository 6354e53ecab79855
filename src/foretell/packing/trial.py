"""A trial asks the model itself: what it accepts, and up to which magnitudes it stays finite.

Rules:

1. A missing value is accepted in a field when the model answers a row without it.
2. Categories are closed when the model raises for a value it has not seen, and always in
   columns of a category dtype, where the model would take such a value for a missing one.
3. Bounds: the largest magnitude at which rows of extreme numbers (all, alternating, random
   signs, one column alone) are answered with finite numbers; None when that is the datatype's.
   Integers stay within 2**53, beyond which floating-point arithmetic is not exact. No bound
   excludes a value of the sample; without one none is tighter than 1e4, because nothing tells
   how large the model's numbers are; a model too slow to be tried in time gets none.
4. Bounds are not looked for where Python classes run: what a number means to one (a time to
   sleep, a size) nobody knows, so its signature may declare them.
5. Whatever a model raises during a trial means no; warnings are part of trying.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foretell.core.batch import Batch, column_values
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.packing.sample import Frame, plain_column
from foretell.runtimes.python_class import PythonStage
from foretell.runtimes.stages import Stage, answering

Answer = Callable[[Batch], Mapping[str, Array]]
Row = tuple[Any, ...]

_MAGNITUDES = (1e300, 1e150, 3e38, 1e37, 1e30, 1e20, 2.0**53, 1e15, 1e12, 1e9, 1e6, 1e4, 1e3, 1e2)
_EACH_ALONE = 64
_RANDOM_ROWS = 32
_LEAST_UNSEEN = 1e4
_LONGEST_S = 30.0
_EXACT_INTEGERS = 2**53
_UNSEEN = "\x7fnever seen\x7f"


@dataclass(frozen=True, slots=True)
class Trial:
    """A model's stages and the options of the first, to be asked about fields."""

    stages: tuple[Stage, ...]
    options: Mapping[str, Any]

    def answers(self, fields: Sequence[Field], rows: Sequence[Row]) -> Mapping[str, Array] | None:
        """The model's answers, or None when it raises or a number is not finite."""
        fields = tuple(fields)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                answer = answering(self.stages, fields, self.options)
                found = answer(Batch.from_rows(fields, rows))
                answers = {name: column_values(column) for name, column in found.items()}
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001  a model may raise anything; here it means no
                return None
        return answers if all(map(_is_finite, answers.values())) else None

    def accepts(self, fields: Sequence[Field], rows: Sequence[Row]) -> bool:
        """Whether the model answers `rows`."""
        return self.answers(fields, rows) is not None


def settle(trial: Trial, fields: tuple[Field, ...], row: Row, sample: Frame | None) -> Fields:
    """`fields` with what the model turns out to accept, tried around the good `row`."""
    fields = _with_missing(trial, fields, row)
    fields = _with_closed(trial, fields, row)
    if any(isinstance(stage, PythonStage) for stage in trial.stages):
        return fields
    return _with_bounds(trial, fields, row, sample)


Fields = tuple[Field, ...]


def _with_missing(trial: Trial, fields: Fields, row: Row) -> Fields:
    scalar = [place for place, field in enumerate(fields) if not field.shape]
    if not scalar:
        return fields
    loose = tuple(_nullable(field) if not field.shape else field for field in fields)

    def without(place: int) -> Row:
        missing = np.nan if loose[place].datatype.is_float else None
        return (*row[:place], missing, *row[place + 1 :])

    if trial.accepts(loose, [without(place) for place in scalar]):
        return loose
    if len(scalar) > _EACH_ALONE:
        return fields
    settled = list(fields)
    for place in scalar:
        one = (*fields[:place], loose[place], *fields[place + 1 :])
        if trial.accepts(one, [without(place)]):
            settled[place] = loose[place]
    return tuple(settled)


def _nullable(field: Field) -> Field:
    datatype = Datatype.FP64 if field.datatype.is_integer else field.datatype
    return replace(field, datatype=datatype, nullable=True)


def _with_closed(trial: Trial, fields: Fields, row: Row) -> Fields:
    settled = list(fields)
    for place, field in enumerate(fields):
        if not field.categories:
            continue
        if field.name in trial.options.get("categorical", ()):
            settled[place] = replace(field, closed=True)
            continue
        unseen: Any = _UNSEEN
        if field.datatype.is_numeric:
            unseen = field.datatype.numpy.type(max(map(float, field.categories)) + 1).item()
        if not trial.accepts(fields, [(*row[:place], unseen, *row[place + 1 :])]):
            settled[place] = replace(field, closed=True)
    return tuple(settled)


def _with_bounds(trial: Trial, fields: Fields, row: Row, sample: Frame | None) -> Fields:
    numeric = [
        place
        for place, field in enumerate(fields)
        if field.datatype.is_numeric and not field.shape and not field.closed
    ]
    if not numeric or not trial.accepts(fields, [row, row]):
        return fields
    largest = {place: _largest(fields[place], row[place], sample) for place in numeric}
    least = _LEAST_UNSEEN if sample is None else 0.0
    highest = max(fields[place].datatype.limits[1] for place in numeric)
    deadline = time.monotonic() + _LONGEST_S
    for magnitude in (highest, *(size for size in _MAGNITUDES if size < highest)):
        if magnitude < max(least, *largest.values()) or time.monotonic() > deadline:
            break
        rows = list(_extremes(fields, numeric, row, magnitude))
        if trial.accepts(fields, rows):
            return _bounded(fields, largest, magnitude)
    return _bounded(fields, largest, highest)


def _bounded(fields: Fields, largest: Mapping[int, float], magnitude: float) -> Fields:
    """`fields` within `magnitude`, but for those that have a larger number: the `largest`."""
    settled = list(fields)
    for place, known in largest.items():
        low, high = _limits(fields[place])
        tight = (max(low, -magnitude), min(high, magnitude))
        if tight != fields[place].datatype.limits and known <= min(magnitude, _most(fields[place])):
            settled[place] = replace(fields[place], minimum=tight[0], maximum=tight[1])
    return tuple(settled)


def _most(field: Field) -> float:
    return _EXACT_INTEGERS if field.datatype.is_integer else field.datatype.limits[1]


def _limits(field: Field) -> tuple[float, float]:
    low, high = field.datatype.limits
    if field.datatype.is_integer:
        return max(low, -_EXACT_INTEGERS), min(high, _EXACT_INTEGERS)
    return low, high


def _largest(field: Field, value: Any, sample: Frame | None) -> float:
    values = [value] if sample is None else plain_column(sample[field.name])
    numbers = np.abs(np.asarray(values, dtype=float))
    finite = numbers[np.isfinite(numbers)]
    return float(finite.max()) if finite.size else 0.0


def _extremes(fields: Fields, numeric: list[int], row: Row, magnitude: float) -> Iterator[Row]:
    random = np.random.default_rng(0)

    def with_signs(signs: Sequence[float]) -> Row:
        values = list(row)
        for place, sign in zip(numeric, signs, strict=True):
            if sign:
                low, high = _limits(fields[place])
                number = max(-magnitude, low) if sign < 0 else min(magnitude, high)
                values[place] = int(number) if fields[place].datatype.is_integer else number
        return tuple(values)

    k = len(numeric)
    yield with_signs([1.0] * k)
    yield with_signs([-1.0] * k)
    yield with_signs([1.0 if place % 2 else -1.0 for place in range(k)])
    yield with_signs([-1.0 if place % 2 else 1.0 for place in range(k)])
    for _ in range(_RANDOM_ROWS):
        yield with_signs(random.choice([-1.0, 0.0, 1.0], k).tolist())
    step = max(1, k // _EACH_ALONE)
    for alone in range(0, k, step):
        for sign in (1.0, -1.0):
            yield with_signs([sign if place == alone else 0.0 for place in range(k)])


def _is_finite(answer: Array) -> bool:
    return answer.dtype.kind != "f" or bool(np.isfinite(answer).all())
