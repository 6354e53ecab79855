"""What counting costs is the difference of two servers in the same round."""

import pytest
from benchmarks.counting import BATCHES, OFF, ON, differences, hooks_alone
from benchmarks.harness import Measurement


def measured(server: str, load: str, cpu_us: float) -> Measurement:
    return Measurement(server, load, cpu_us, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_rounds_are_compared_with_themselves() -> None:
    """The machine gets slower by the round, and each begins with another server."""
    found = [
        *(measured(ON, "a", 53), measured(ON, "b", 70), measured(OFF, "a", 50)),
        *(measured(OFF, "b", 69), measured(OFF, "a", 90), measured(OFF, "b", 99)),
        *(measured(ON, "a", 94), measured(ON, "b", 100)),
    ]
    told = {cost.load: (cost.off_us, cost.on_us, cost.difference_us) for cost in differences(found)}
    assert told == {"a": (70, 73.5, 3.5), "b": (84, 85, 1)}


@pytest.mark.parametrize("requests", BATCHES)
def test_the_hooks_alone_cost_some_microseconds(requests: int) -> None:
    cost = hooks_alone(requests)
    assert 0 < cost.difference_us < 100
    assert cost.cells[1:3] == ("", "")
