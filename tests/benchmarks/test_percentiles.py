"""A percentile is one of the numbers, and the right one; medians are of like with like."""

from dataclasses import dataclass

import pytest
from benchmarks.percentiles import medians, percentile


@dataclass
class Seen:
    """A number with two labels."""

    who: str
    where: str
    number: float


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


def test_medians_are_of_the_same_labels_each_and_ignore_one_bad_round() -> None:
    rounds = [Seen("a", "x", 10), Seen("b", "x", 5), Seen("a", "x", 900), Seen("a", "x", 12)]
    assert medians(rounds, labels=2) == [Seen("a", "x", 12), Seen("b", "x", 5)]
