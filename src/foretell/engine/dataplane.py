"""The data plane is the one object a door may call: a batch in, an answer out."""

import logging

import numpy as np

from foretell.core.batch import Batch
from foretell.core.call import Answer, Call, Target
from foretell.core.planner import BatchLimits
from foretell.engine.batcher import Batcher, Predict
from foretell.engine.fleet import Fleet, Loaded
from foretell.errors import ForetellError, ModelFailed

_log = logging.getLogger("foretell.engine")


class DataPlane:
    """Answers calls from the fleet's loaded versions; each version has one batcher."""

    def __init__(self, fleet: Fleet, limits: BatchLimits | None = None) -> None:
        self.fleet = fleet
        self._batchers = {
            (loaded.name, loaded.version): Batcher(_checked(loaded), limits or BatchLimits())
            for versions in fleet.models.values()
            for loaded in versions.values()
        }

    async def infer(self, target: Target, batch: Batch, call: Call) -> Answer:
        """The outputs for `batch`, whose rows `target`'s signature has accepted.

        Raises NotFound, ModelFailed.
        """
        loaded = self.fleet.resolve(target)
        try:
            outputs = await self._batchers[loaded.name, loaded.version].run(batch)
        except Exception as error:
            what = error if isinstance(error, ForetellError) else type(error).__name__
            _log.exception("%s %s failed, request %s", loaded.name, loaded.version, call.request_id)
            raise ModelFailed(
                f"model {loaded.name} {loaded.version} failed ({what}); "
                f"the server's log has the details under request {call.request_id}"
            ) from error
        return Answer(outputs, loaded.name, loaded.version)


def _checked(loaded: Loaded) -> Predict:
    """The version's predict, which raises ModelFailed when its answer breaks its signature."""
    predict = loaded.servable.predict

    def checked(batch: Batch) -> Batch:
        outputs = predict(batch)
        if outputs.n_rows != batch.n_rows:
            raise ModelFailed(f"{outputs.n_rows} rows came back for {batch.n_rows}")
        for field, column in zip(outputs.fields, outputs.columns, strict=True):
            if field.datatype.is_float and not np.isfinite(column).all():
                if not field.nullable:
                    raise ModelFailed(f"output {field.name!r} is not finite")
                if np.isinf(column).any():
                    raise ModelFailed(f"output {field.name!r} is infinite")
        return outputs

    return checked
