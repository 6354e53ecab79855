"""A percentile is the smallest of the numbers that at least so many per cent do not exceed."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def percentile(numbers: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of `numbers`, which need no order; `share` is 0 to 100.

    Raises ValueError when there are none.
    """
    if not numbers:
        raise ValueError("there is no percentile of no numbers")
    return sorted(numbers)[max(math.ceil(share / 100 * len(numbers)) - 1, 0)]


def medians(found: Sequence[Row], labels: int) -> list[Row]:
    """One of each group of dataclasses that have the same first `labels` fields.

    Each of its other fields is the median of the group's.
    """
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for one in found:
        cells = astuple(one)
        groups.setdefault(cells[:labels], []).append(cells[labels:])
    return [
        type(found[0])(*key, *map(statistics.median, zip(*group, strict=True)))
        for key, group in groups.items()
    ]
