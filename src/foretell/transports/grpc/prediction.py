"""The prediction service: the default model's predictions, in the smallest messages there are.

Metadata `model-name` and `model-version` ask for another model than the default one.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple

from foretell.codecs import messages
from foretell.codecs.features import Features
from foretell.core.call import Answer, Target
from foretell.engine.dataplane import DataPlane
from foretell.transports.grpc.errors import Code, GrpcRefusal
from foretell.transports.grpc.rpc import Rpc
from foretell.transports.grpc.wire import Methods, Unary

SERVICE = "prediction.PredictionService"


class _Asked(NamedTuple):
    """A target that was asked for before: how its messages are read, and whether it is quick."""

    target: Target
    version: tuple[str, str]
    features: Features
    inline: bool


class PredictionService:
    """`prediction.PredictionService` of a data plane's models."""

    def __init__(self, dataplane: DataPlane, *, max_rows: int) -> None:
        self._dataplane = dataplane
        self._max_rows = max_rows
        self._known: dict[Target, _Asked] = {}
        self._written: dict[tuple[str, str] | None, Features] = {}
        self._default = Target()
        self._health = messages.message("prediction.HealthResponse")

    def methods(self) -> Methods:
        """The methods by path."""
        return {
            f"/{SERVICE}/Predict": Unary(
                messages.message("prediction.PredictRequest"),
                self._predict,
                unread=True,
                write=self._predicted,
            ),
            f"/{SERVICE}/BatchPredict": Unary(
                messages.message("prediction.BatchPredictRequest"),
                self._batch_predict,
                unread=True,
            ),
            f"/{SERVICE}/HealthCheck": Unary(
                messages.message("prediction.HealthRequest"), self._health_check
            ),
        }

    def _predict(self, payload: bytes, rpc: Rpc) -> Awaitable[Answer]:
        target, rpc.asked, features, inline = self._find(rpc)
        infer = self._dataplane.infer(target, features.read_one(payload), rpc.call)
        return infer if inline else rpc.unless_gone(infer)

    def _predicted(self, answer: Answer, rpc: Rpc) -> bytes:
        if answer.cache is not None:
            rpc.tell_cache(answer)
        try:
            return self._written[rpc.asked].write_one(answer.outputs, answer.version)
        except OverflowError as error:
            raise GrpcRefusal(Code.FAILED_PRECONDITION, str(error)) from None

    async def _batch_predict(self, payload: bytes, rpc: Rpc) -> bytes:
        target, rpc.asked, features, _ = self._find(rpc)
        batch = features.read_many(payload, max_rows=self._max_rows)
        answer: Answer = await rpc.unless_gone(self._dataplane.infer(target, batch, rpc.call))
        rpc.tell_cache(answer)
        try:
            return features.write_many(answer.outputs)
        except OverflowError as error:
            raise GrpcRefusal(Code.FAILED_PRECONDITION, str(error)) from None

    def _find(self, rpc: Rpc) -> _Asked:
        """The model that is asked. Raises NotFound, GrpcRefusal."""
        told, target = rpc.told, self._default
        if b"model-name" in told or b"model-version" in told:
            target = Target(_word(told.get(b"model-name")), _word(told.get(b"model-version")))
        asked = self._known.get(target)
        if asked is None:
            loaded = self._dataplane.fleet.resolve(target)
            features = Features(loaded.signature)
            asked = _Asked(
                target,
                (loaded.name, loaded.version),
                features,
                self._dataplane.runs_inline(target),
            )
            self._written[asked.version] = features
            if features.refusal is None:
                self._known[target] = asked
        if rpc.grant is not None:
            rpc.allow(asked.version[0])
        if asked.features.refusal is not None:
            raise GrpcRefusal(Code.FAILED_PRECONDITION, asked.features.refusal)
        return asked

    async def _health_check(self, _: Any, rpc: Rpc) -> bytes:
        loaded = bool(self._dataplane.fleet.models)
        answer: bytes = self._health(status="healthy", model_loaded=loaded).SerializeToString()
        return answer


def _word(told: bytes | None) -> str | None:
    return told.decode("latin-1") if told else None
