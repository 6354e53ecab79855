"""The data plane is the one object a door may call: a batch in, an answer out."""

import logging
from typing import NamedTuple

from foretell.core.admission import AdmissionLimits
from foretell.core.batch import Batch
from foretell.core.call import Answer, Call, Target
from foretell.core.planner import BatchLimits
from foretell.engine.batcher import Batcher
from foretell.engine.executors import ProcessDied
from foretell.engine.executors.inline import InlineExecutor
from foretell.engine.fleet import Fleet
from foretell.errors import DeadlineExceeded, ForetellError, ModelFailed, Overloaded

_log = logging.getLogger("foretell.engine")


class Traffic(NamedTuple):
    """How many requests were run since the start, in how many batches, over all models."""

    requests: int
    batches: int


class _Lane(NamedTuple):
    """One loaded version and the batcher that all doors share."""

    model: str
    version: str
    batcher: Batcher


class DataPlane:
    """Answers calls from the fleet's loaded versions; each version has one batcher."""

    def __init__(
        self,
        fleet: Fleet,
        limits: BatchLimits | None = None,
        admission: AdmissionLimits | None = None,
    ) -> None:
        self.fleet = fleet
        self._lanes = {
            (name, version): _Lane(
                name,
                version,
                Batcher(loaded.executor, limits or BatchLimits(), admission or AdmissionLimits()),
            )
            for name, versions in fleet.models.items()
            for version, loaded in versions.items()
        }
        self._known: dict[Target, _Lane] = {}

    async def infer(self, target: Target, batch: Batch, call: Call) -> Answer:
        """The outputs for `batch`, whose rows `target`'s signature has accepted.

        Raises NotFound, Overloaded, DeadlineExceeded, ModelFailed.
        """
        lane = self._known.get(target) or self._find(target)
        try:
            outputs = await lane.batcher.submit(batch, call.deadline)
        except (Overloaded, DeadlineExceeded):
            raise
        except Exception as error:
            told = isinstance(error, ForetellError | ProcessDied)
            what = error if told else type(error).__name__
            name = f"{lane.model} {lane.version}"
            _log.exception("%s failed, request %s", name, call.request_id)
            raise ModelFailed(
                f"model {name} failed ({what}); "
                f"the server's log has the details under request {call.request_id}"
            ) from error
        return Answer(outputs, lane.model, lane.version)

    def _find(self, target: Target) -> _Lane:
        """The lane of `target`, remembered: there are only so many targets that exist."""
        loaded = self.fleet.resolve(target)
        lane = self._known[target] = self._lanes[loaded.name, loaded.version]
        return lane

    def runs_inline(self, target: Target) -> bool:
        """Whether `target` runs on the event loop, so that its caller cannot leave meanwhile."""
        return isinstance(self.fleet.resolve(target).executor, InlineExecutor)

    def traffic(self) -> Traffic:
        """The counts so far; may be asked from any thread."""
        batchers = [lane.batcher for lane in self._lanes.values()]
        return Traffic(sum(one.requests for one in batchers), sum(one.batches for one in batchers))

    def close(self) -> None:
        """Let go of threads and processes."""
        for lane in self._lanes.values():
            lane.batcher.close()
