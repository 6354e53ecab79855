"""Tests of one group run one after the other: pytest-xdist must really keep them together."""

import pytest


@pytest.mark.xdist_group("alone")
def test_a_group_is_told_to_the_scheduler(request: pytest.FixtureRequest) -> None:
    """It goes by the names of tests, which some versions of pytest do not let it change."""
    apart = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@alone") == apart
