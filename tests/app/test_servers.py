"""The servers: what they do with an application before it answers."""

import gc

from foretell.app import wiring
from foretell.app.serving.servers import settled
from foretell.app.settings import Settings


def test_what_was_loaded_is_out_of_the_collectors_way() -> None:
    try:
        app = settled(lambda: wiring.build([], Settings()))
        assert gc.get_freeze_count() > 10_000
        assert not any(one is app for one in gc.get_objects())
    finally:
        gc.unfreeze()
