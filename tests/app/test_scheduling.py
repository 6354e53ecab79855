"""When the server's I/O threads are told to wait for their turn."""

import pytest

from foretell.app.scheduling import crowded
from foretell.engine.dataplane import Traffic


@pytest.mark.parametrize(
    ("requests", "batches", "so"),
    [(0, 0, False), (1000, 1000, False), (1000, 500, False), (1000, 300, True), (64, 1, True)],
)
def test_requests_crowd_in_when_several_share_a_batch(
    requests: int, batches: int, so: bool
) -> None:
    before = Traffic(5000, 100)
    assert crowded(before, Traffic(5000 + requests, 100 + batches)) is so
