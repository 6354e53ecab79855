"""The data plane is the one object a door may call: a batch in, an answer out."""

import functools
import logging
from collections.abc import Awaitable, Mapping
from typing import NamedTuple

from foretell.core.admission import AdmissionLimits
from foretell.core.batch import Batch
from foretell.core.call import Answer, Call, Target, trace_id_of
from foretell.core.planner import BatchLimits
from foretell.engine.batcher import Batcher, Tally
from foretell.engine.executors import ProcessDied
from foretell.engine.executors.inline import InlineExecutor
from foretell.engine.fleet import Fleet, Loaded
from foretell.engine.hooks import Listener, VersionListener, VersionLoaded
from foretell.engine.stores.cached import Cached
from foretell.engine.stores.choosing import store_of
from foretell.engine.stores.flight import Runs
from foretell.engine.stores.keys import identity
from foretell.engine.stores.store import CacheLimits
from foretell.engine.switches import Switches
from foretell.errors import ForetellError, ModelFailed

_log = logging.getLogger("foretell.engine")


class Traffic(NamedTuple):
    """How many requests were run since the start, in how many batches, over all models."""

    requests: int
    batches: int


class DataPlane:
    """Answers calls from the fleet's loaded versions; each version has one batcher.

    Models in `caches` have a result cache in front of it. `listener` is told what they do.
    """

    def __init__(
        self,
        fleet: Fleet,
        limits: BatchLimits | None = None,
        admission: AdmissionLimits | None = None,
        switches: Switches | None = None,
        listener: Listener | None = None,
        caches: Mapping[str, CacheLimits] | None = None,
    ) -> None:
        self.fleet = fleet
        self._listener = listener
        self.switches = switches or Switches(fleet.models)
        self.limits = limits or BatchLimits()
        self._batchers: dict[tuple[str, str], Batcher] = {}
        self._cached: dict[tuple[str, str], Cached] = {}
        for name, versions in fleet.models.items():
            for version, loaded in versions.items():
                told = None if listener is None else listener.version(name, version)
                limited = caches.get(name) if caches else None
                batcher = self._batchers[name, version] = Batcher(
                    loaded.executor,
                    self.limits,
                    admission or AdmissionLimits(),
                    version=(name, version),
                    told=functools.partial(_told, (name, version)),
                    listener=told if told is None or limited is None else Runs(told),
                )
                if limited is not None:
                    self._cached[name, version] = _cached(batcher, limited, loaded, told)
        self._known: dict[Target, Batcher | Cached] = {}
        if listener is not None:
            for name, version in self._batchers:
                seconds = fleet.models[name][version].load_s
                listener.loaded(VersionLoaded(name, version, seconds))

    def infer(self, target: Target, batch: Batch, call: Call) -> Awaitable[Answer]:
        """The answer to `batch`, whose rows `target`'s signature has accepted.

        Raises NotFound, NotReady and Overloaded at once; what is awaited raises
        DeadlineExceeded and ModelFailed.
        """
        if self.switches.any_turned:
            self.switches.check(self.fleet.resolve(target).name)
        return (self._known.get(target) or self._find(target)).submit(batch, call)

    def _find(self, target: Target) -> Batcher | Cached:
        """Who answers `target`, remembered: there are only so many targets that exist."""
        loaded = self.fleet.resolve(target)
        version = loaded.name, loaded.version
        found = self._known[target] = self._cached.get(version) or self._batchers[version]
        return found

    def runs_inline(self, target: Target) -> bool:
        """Whether `target` runs on the event loop, so that its caller cannot leave meanwhile."""
        loaded = self.fleet.resolve(target)
        cached = self._cached.get((loaded.name, loaded.version))
        at_once = cached is None or cached.answers_at_once
        return at_once and isinstance(loaded.executor, InlineExecutor)

    def traffic(self) -> Traffic:
        """The counts so far; may be asked from any thread."""
        tallies = [batcher.tally for batcher in self._batchers.values()]
        return Traffic(sum(one.requests for one in tallies), sum(one.batches for one in tallies))

    def tally(self, model: str, version: str) -> Tally:
        """What this version has done since it was loaded. Raises KeyError."""
        return self._batchers[model, version].tally

    def close(self) -> None:
        """Let go of threads, processes and stores: no more calls come."""
        for cached in self._cached.values():
            cached.close()
        for batcher in self._batchers.values():
            batcher.close()
        if self._listener is not None:
            self._listener.closed()


def _cached(
    batcher: Batcher, limits: CacheLimits, loaded: Loaded, listener: VersionListener | None
) -> Cached:
    store = store_of(limits, loaded.name, identity(loaded.manifest))
    most_rows = limits.max_rows
    return Cached(batcher, store, loaded.manifest, most_rows=most_rows, listener=listener)


def _told(version: tuple[str, str], error: Exception, call: Call) -> ModelFailed:
    """The log gets the details of a model's failure, its caller one sentence."""
    name = " ".join(version)
    known = isinstance(error, ForetellError | ProcessDied)
    what = error if known else type(error).__name__
    fields = {"request_id": call.request_id, "model": version[0], "version": version[1]}
    fields |= {"code": ModelFailed.code, "reason": str(what)}
    trace_id = trace_id_of(call.traceparent)
    if trace_id is not None:
        fields["trace_id"] = trace_id
    _log.error("%s failed", name, exc_info=error, extra=fields)
    failed = ModelFailed(
        f"model {name} failed ({what}); "
        f"the server's log has the details under request {call.request_id}"
    )
    failed.__cause__ = error
    return failed
