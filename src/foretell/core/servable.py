"""A servable is a loaded version: it turns a batch of inputs into a batch of outputs.

Rules:

1. n rows in, n rows out, in the same order; a row's answer never depends on its neighbours.
2. It owns no queue, no clock, no socket. It may be called from any thread, by one at a time.
3. It raises what its model raises; the engine turns that into ModelFailed.
"""

from typing import Protocol

from foretell.core.batch import Batch
from foretell.core.signature import Signature


class Servable(Protocol):
    """What a runtime makes of artifact files."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def predict(self, batch: Batch) -> Batch:
        """`batch` of `signature.inputs` in; as many rows of `signature.outputs` out."""
        ...
