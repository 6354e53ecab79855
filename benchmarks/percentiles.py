"""A percentile is the smallest of the numbers that at least so many per cent do not exceed."""

import math
from collections.abc import Sequence


def percentile(numbers: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of `numbers`, which need no order; `share` is 0 to 100.

    Raises ValueError when there are none.
    """
    if not numbers:
        raise ValueError("there is no percentile of no numbers")
    return sorted(numbers)[max(math.ceil(share / 100 * len(numbers)) - 1, 0)]
