"""A percentile is one of the numbers, and the right one."""

import pytest
from benchmarks.percentiles import percentile


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)]
)
def test_so_many_per_cent_do_not_exceed_it(share: float, expected: float) -> None:
    hundred = [float(n) for n in range(100, 0, -1)]
    assert percentile(hundred, share) == expected


def test_the_p99_of_few_numbers_is_the_largest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0


def test_there_is_none_of_nothing() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        percentile([], 50)
