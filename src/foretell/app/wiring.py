"""Wiring puts the rooms together: packages, fleet, data plane, door."""

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from foretell.app.settings import Settings, nearest
from foretell.app.targets import packages_of
from foretell.core.admission import AdmissionLimits
from foretell.core.planner import BatchLimits
from foretell.engine.catalogue import Catalogue
from foretell.engine.dataplane import DataPlane
from foretell.engine.fleet import Fleet, load
from foretell.engine.notice import Notice
from foretell.engine.repository import Package
from foretell.engine.stores.store import CacheLimits
from foretell.engine.switches import Switches
from foretell.errors import BadSettings
from foretell.telemetry.metrics import Metrics
from foretell.transports.asgi.access.gate import Gate
from foretell.transports.asgi.access.jwks import SigningKeys
from foretell.transports.asgi.access.keyring import Keyring
from foretell.transports.asgi.access.rates import Rates
from foretell.transports.asgi.access.tokens import Terms, Tokens, credentials
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.grpc.door import GrpcLimits, grpc_door
from foretell.transports.rest.app import RestApp
from foretell.transports.rest.hot import RestLimits

_PART_ROWS = 65_536
"""What a quick model takes of one large request at once, as far as it keeps to its 5 ms on the
event loop: 64 turns of 1,024 rows cost a linear model as much as its own work."""


def create_app(*targets: str | Path, settings: Settings | None = None) -> RestApp:
    """An ASGI application (a FastAPI) that serves the models `targets` name.

    Extend it with routes and middleware, mount it, or run it with any ASGI server. The
    models are loaded before this returns. Raises BadPackage, NotFound, BadSettings.
    """
    settings = settings or Settings.read()
    # Whoever runs the application chooses its addresses.
    settings = settings.model_copy(update={"metrics_bind": None})
    return build(packages_of(targets, cache_dir=settings.cache_dir), settings)


def switches_of(packages: Sequence[Package]) -> Switches:
    """The switches of the packages' models: made before workers are forked, all share them."""
    return Switches(package.manifest.name for package in packages)


def metrics_of(
    packages: Sequence[Package], settings: Settings, switches: Switches
) -> Metrics | None:
    """The metrics of the packages, if there are to be any: to be made before, too."""
    if not settings.metrics:
        return None
    versions = [(package.manifest.name, package.manifest.version) for package in packages]
    return Metrics(
        versions,
        settings.latency_buckets_s,
        in_service=switches.is_on,
        release=version("foretell"),
        cached=settings.caches.keys(),
    )


def _gate_of(settings: Settings, default_model: str | None) -> Gate | None:
    """What callers must pass, if anything is asked of them. Raises BadSettings, MissingExtra."""
    keys = None if settings.keys_file is None else Keyring(settings.keys_file)
    tokens = None
    if settings.jwt_jwks and settings.jwt_issuer and settings.jwt_audience:
        terms = Terms(
            settings.jwt_issuer,
            settings.jwt_audience,
            settings.jwt_leeway_s,
            settings.jwt_scope_claim,
        )
        tokens = Tokens(SigningKeys(settings.jwt_jwks), terms)
    known = credentials(keys, tokens) if keys or tokens else None
    rates = None
    if settings.rate_limit is not None:
        rates = Rates(settings.rate_limit, settings.rate_burst or math.ceil(settings.rate_limit))
    return Gate(known, default_model, rates) if known or rates else None


def _caches_of(settings: Settings, fleet: Fleet) -> dict[str, CacheLimits]:
    """How the answers of models are kept. Raises BadSettings for a model that is not served."""
    for name in settings.models:
        if name not in fleet.models:
            hint = nearest(name, fleet.models)
            raise BadSettings(f"models.{name} is set, but no model of that name is served{hint}")
    return {
        name: CacheLimits(
            told.max_bytes,
            told.ttl_s,
            told.max_rows,
            told.store,
            told.url or settings.cache_url,
            told.timeout_ms / 1000,
        )
        for name, told in settings.caches.items()
    }


def build(
    packages: Sequence[Package],
    settings: Settings,
    switches: Switches | None = None,
    notice: Notice | None = None,
    metrics: Metrics | None = None,
) -> RestApp:
    """The application for packages that were found already."""
    notice = notice or Notice()
    switches = switches or switches_of(packages)
    metrics = metrics or metrics_of(packages, settings, switches)
    listener, told_rest, told_grpc = None, None, None
    if metrics is not None:
        listener = metrics.listener(lambda: notice.leaving and not notice.stopping)
        told_rest, told_grpc = listener.door("rest"), listener.door("grpc")
    loaded = [
        load(package, kind=settings.executor_of(package.manifest.name), threads=settings.threads)
        for package in packages
    ]
    fleet = Fleet(loaded, default_model=settings.default_model)
    # Whoever sets the rows of a batch may have a model that takes no more of them.
    part_rows = None if "max_batch_rows" in settings.model_fields_set else _PART_ROWS
    batching = BatchLimits(settings.max_batch_rows, settings.max_wait_ms / 1000, part_rows)
    admission = AdmissionLimits(settings.max_queue_rows)
    caches = _caches_of(settings, fleet)
    dataplane = DataPlane(fleet, batching, admission, switches, listener, caches)
    catalogue = Catalogue(dataplane, notice, control=settings.model_control)
    bodies = Bodies(settings.max_body_bytes_in_flight)
    messages = GrpcLimits(settings.max_body_bytes, settings.max_rows)
    app = RestApp(
        dataplane,
        catalogue,
        limits=RestLimits(settings.max_body_bytes, settings.max_rows),
        bodies=bodies,
        version=version("foretell"),
        beside=[
            grpc_door(
                dataplane,
                catalogue,
                messages,
                bodies,
                leaving=lambda: notice.leaving,
                replied=told_grpc,
            )
        ],
        replied=told_rest,
        render=metrics.render if metrics and settings.metrics_bind is None else None,
    )
    app.gate = _gate_of(settings, fleet.default_model)
    return app
