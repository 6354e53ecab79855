"""The data plane is the one object a door may call: a batch in, an answer out."""

import logging

import numpy as np

from foretell.core.batch import Batch
from foretell.core.call import Answer, Call, Target
from foretell.engine.fleet import Fleet, Loaded
from foretell.errors import ForetellError, ModelFailed

_log = logging.getLogger("foretell.engine")


class DataPlane:
    """Answers calls from the fleet's loaded versions."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    async def infer(self, target: Target, batch: Batch, call: Call) -> Answer:
        """The outputs for `batch`, whose rows `target`'s signature has accepted.

        Raises NotFound, ModelFailed.
        """
        loaded = self.fleet.resolve(target)
        return Answer(self._predict(loaded, batch, call), loaded.name, loaded.version)

    def _predict(self, loaded: Loaded, batch: Batch, call: Call) -> Batch:
        try:
            outputs = loaded.servable.predict(batch)
            _check_outputs(outputs, batch.n_rows)
        # Whatever the user's model raises, sys.exit() included, must not end the server.
        except (Exception, SystemExit) as error:
            what = error if isinstance(error, ForetellError) else type(error).__name__
            _log.exception("%s %s failed, request %s", loaded.name, loaded.version, call.request_id)
            raise ModelFailed(
                f"model {loaded.name} {loaded.version} failed ({what}); "
                f"the server's log has the details under request {call.request_id}"
            ) from error
        return outputs


def _check_outputs(outputs: Batch, n_rows: int) -> None:
    """Raise ModelFailed when an answer breaks its signature."""
    if outputs.n_rows != n_rows:
        raise ModelFailed(f"{outputs.n_rows} rows came back for {n_rows}")
    for field, column in zip(outputs.fields, outputs.columns, strict=True):
        if field.datatype.is_float and not np.isfinite(column).all():
            if not field.nullable:
                raise ModelFailed(f"output {field.name!r} is not finite")
            if np.isinf(column).any():
                raise ModelFailed(f"output {field.name!r} is infinite")
