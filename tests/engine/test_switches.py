"""Switches take models out of service and back, and nothing they say is lost between processes."""

import pytest

from foretell.engine.switches import Switches
from foretell.errors import NotFound, NotReady


def test_a_model_that_is_off_is_not_asked_and_comes_back() -> None:
    switches = Switches(["a", "b"])
    assert (switches.any_off, switches.any_turned) == (False, 0)
    switches.turn("a", on=False)
    assert (switches.any_off, switches.any_turned) == (True, 1)
    assert switches.is_on("b")
    with pytest.raises(NotReady, match="model 'a' was unloaded"):
        switches.check("a")
    switches.turn("a", on=True)
    switches.check("a")
    assert (switches.any_off, switches.any_turned) == (
        False,
        1,
    )  # another process may have turned one off meanwhile
    with pytest.raises(NotFound, match="no model 'c'; there are a, b"):
        switches.turn("c", on=True)
