"""The catalogue is what can be asked of the server itself: what is served, and in which state.

Every door that speaks the Open Inference Protocol tells the same from here.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from foretell.core.call import Target
from foretell.core.planner import BatchLimits
from foretell.core.signature import Signature
from foretell.engine.batcher import Tally
from foretell.engine.dataplane import DataPlane
from foretell.engine.notice import Notice
from foretell.errors import Forbidden

NAME = "foretell"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
_PLATFORMS = {"onnx": "onnx_onnxv1"}


@dataclass(frozen=True, slots=True)
class ModelAbout:
    """One version as the protocol tells of it: `versions` are all that are loaded, newest first."""

    name: str
    version: str
    versions: tuple[str, ...]
    platform: str
    signature: Signature
    max_batch_rows: int
    max_wait_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether one version is in service: `state` is READY or UNAVAILABLE, `reason` says why."""

    name: str
    version: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one version has done; `last_run_ms` is in milliseconds since 1970, 0 for never."""

    name: str
    version: str
    tally: Tally
    last_run_ms: int


class Catalogue:
    """Tells of the models of a data plane; with `control`, puts them in and out of service."""

    def __init__(self, dataplane: DataPlane, notice: Notice, *, control: bool = False) -> None:
        self.control = control
        self.notice = notice
        self.version = version("foretell")
        self._dataplane = dataplane
        self._limits: BatchLimits = dataplane.limits

    @property
    def ready(self) -> bool:
        """Whether there are models, all of them in service, and the server does not stop."""
        models = self._dataplane.fleet.models
        return bool(models) and not self._dataplane.switches.any_off and not self.notice.stopping

    def is_ready(self, target: Target) -> bool:
        """Whether this version is in service, in a server that does not stop. Raises NotFound."""
        model = self._dataplane.fleet.resolve(target).name
        return self._dataplane.switches.is_on(model) and not self.notice.stopping

    def about(self, target: Target) -> ModelAbout:
        """The metadata of one version. Raises NotFound."""
        fleet = self._dataplane.fleet
        loaded = fleet.resolve(target)
        runtime = loaded.manifest.steps[-1].runtime
        return ModelAbout(
            name=loaded.name,
            version=loaded.version,
            versions=tuple(fleet.models[loaded.name]),
            platform=_PLATFORMS.get(runtime, f"foretell_{runtime}"),
            signature=loaded.signature,
            max_batch_rows=self._limits.max_batch_rows,
            max_wait_s=self._limits.max_wait_s,
        )

    def index(self, *, only_ready: bool = False) -> list[Standing]:
        """Every loaded version, by model, newest first."""
        listed = []
        for name, versions in self._dataplane.fleet.models.items():
            on = self._dataplane.switches.is_on(name)
            if on or not only_ready:
                state, reason = ("READY", "") if on else ("UNAVAILABLE", "unloaded")
                listed += [Standing(name, version, state, reason) for version in versions]
        return listed

    def statistics(self, target: Target | None = None) -> Sequence[Statistics]:
        """What one version, or each, has done in this worker. Raises NotFound."""
        if target is not None:
            loaded = self._dataplane.fleet.resolve(target)
            return [self._statistics(loaded.name, loaded.version)]
        models = self._dataplane.fleet.models
        return [self._statistics(name, version) for name in models for version in models[name]]

    def _statistics(self, name: str, version: str) -> Statistics:
        tally = self._dataplane.tally(name, version)
        ran_ms = 0
        if tally.last_run is not None:
            ran_ms = int((time.time() - time.monotonic() + tally.last_run) * 1000)
        return Statistics(name, version, tally, ran_ms)

    def turn(self, model: str, *, on: bool) -> None:
        """Put a model into service or take it out. Raises NotFound, Forbidden."""
        if not self.control:
            verb = "load" if on else "unload"
            raise Forbidden(
                f"models are not {verb}ed by request here; start the server with --model-control"
            )
        self._dataplane.switches.turn(model, on=on)
