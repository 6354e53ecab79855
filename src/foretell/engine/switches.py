"""A switch takes one model out of service and back, in all workers of a server at once.

It is a byte in memory that processes share which are forked after it was made; a first byte
tells that one was ever off, so that a request looks at one byte only. It never turns back:
processes that turn switches at the same time could lose it. A model that is off stays in
memory, and ready to go on.
"""

import mmap
from collections.abc import Iterable

from foretell.errors import NotFound, NotReady

_RETRY_S = 5.0


class Switches:
    """The switches of these models, all on."""

    def __init__(self, models: Iterable[str]) -> None:
        self._places = {name: place for place, name in enumerate(sorted(set(models)), start=1)}
        self._off = mmap.mmap(-1, len(self._places) + 1)

    @property
    def any_turned(self) -> int:
        """Not 0 when a model is off, or was."""
        return self._off[0]

    @property
    def any_off(self) -> bool:
        """Whether a model is off."""
        return any(self._off[1:])

    def is_on(self, model: str) -> bool:
        """Whether `model` is in service. Raises NotFound."""
        return not self._off[self._place(model)]

    def turn(self, model: str, *, on: bool) -> None:
        """Put `model` into service, or take it out; what runs is answered. Raises NotFound."""
        self._off[self._place(model)] = 0 if on else 1
        if not on:
            self._off[0] = 1

    def check(self, model: str) -> None:
        """Raise NotReady when `model` is off."""
        if not self.is_on(model):
            raise NotReady(
                f"model {model!r} was unloaded; load it again with POST "
                f"/v2/repository/models/{model}/load",
                retry_after_s=_RETRY_S,
            )

    def _place(self, model: str) -> int:
        place = self._places.get(model)
        if place is None:
            raise NotFound(f"there is no model {model!r}; there are {', '.join(self._places)}")
        return place
