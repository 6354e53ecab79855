"""The gRPC door: the wire with all services of a data plane."""

from dataclasses import dataclass

from foretell.engine.catalogue import Catalogue
from foretell.engine.dataplane import DataPlane
from foretell.engine.hooks import Replied
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.grpc import inference, prediction
from foretell.transports.grpc.leaving import Leaving, never
from foretell.transports.grpc.standard import (
    HEALTH,
    REFLECTIONS,
    HealthService,
    ReflectionService,
)
from foretell.transports.grpc.wire import Wire

_ROW_OVERHEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """What one message may bring: bytes (decompressed), and rows."""

    max_message_bytes: int = 64 * 2**20
    max_rows: int = 100_000

    @property
    def max_overhead_bytes(self) -> int:
        """What parsing may make of a message beside its bytes: as much again, or 1 KiB a row."""
        return max(self.max_message_bytes, _ROW_OVERHEAD_BYTES * self.max_rows)


def grpc_door(
    dataplane: DataPlane,
    catalogue: Catalogue,
    limits: GrpcLimits,
    bodies: Bodies,
    *,
    leaving: Leaving = never,
    replied: Replied | None = None,
) -> Wire:
    """An ASGI application that answers gRPC calls for the models of `dataplane`.

    `leaving` says whether the server is stopping: it is asked now and then, and ends streams.
    `replied` is told the status of each call.
    """
    own = (prediction.SERVICE, inference.SERVICE)
    reflections = tuple(f"{package}.ServerReflection" for package in REFLECTIONS)
    services = (*own, HEALTH, *reflections)
    methods = {
        **prediction.PredictionService(dataplane, max_rows=limits.max_rows).methods(),
        **inference.InferenceService(dataplane, catalogue, max_rows=limits.max_rows).methods(),
        **HealthService(catalogue, services, leaving).methods(),
    }
    for package in REFLECTIONS:
        methods |= ReflectionService(package, services).methods()
    return Wire(
        methods,
        bodies,
        max_message_bytes=limits.max_message_bytes,
        max_overhead_bytes=limits.max_overhead_bytes,
        leaving=leaving,
        replied=replied,
    )
