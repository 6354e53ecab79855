"""The inference service: the Open Inference Protocol over gRPC, as Triton's client calls it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from foretell.codecs import messages
from foretell.codecs.oip_messages import (
    Raw,
    parameter,
    read_request,
    response_of,
    tensors_of,
    write_response,
)
from foretell.codecs.tensors import Tensors, shape_of
from foretell.core.call import Answer, Target
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.engine.catalogue import EXTENSIONS, NAME, Catalogue, Statistics
from foretell.engine.dataplane import DataPlane
from foretell.engine.streaming import in_order
from foretell.errors import ForetellError, InvalidInput, NotFound
from foretell.transports.asgi.caching import HEADER, cache_status
from foretell.transports.asgi.exchange import apart
from foretell.transports.grpc.errors import GrpcRefusal
from foretell.transports.grpc.reply import Payload
from foretell.transports.grpc.rpc import Rpc
from foretell.transports.grpc.wire import Methods, Streaming, Unary

SERVICE = "inference.GRPCInferenceService"

_UNSERVED = {
    "shared_memory_region": "shared memory, which this server does not use",
    "classification": "classification, which this server does over HTTP only",
}
# Where requests about one model name it; none named is all of them.
_NAMES_A_MODEL = {
    **dict.fromkeys(("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"), "name"),
    **dict.fromkeys(("RepositoryModelLoad", "RepositoryModelUnload"), "model_name"),
}
_MOST_TIMEOUT_US = 24 * 60 * 60 * 1_000_000


class InferenceService:
    """`inference.GRPCInferenceService` of a data plane's models."""

    def __init__(self, dataplane: DataPlane, catalogue: Catalogue, *, max_rows: int) -> None:
        self._dataplane = dataplane
        self._catalogue = catalogue
        self._max_rows = max_rows
        self._tensors: dict[Target, tuple[Tensors, tuple[str, str]]] = {}
        self._stream_response = _message("ModelStreamInferResponse")

    def methods(self) -> Methods:
        """The methods by path."""
        plain: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: _message("ServerLiveResponse")(live=True),
            "ServerReady": lambda _: _message("ServerReadyResponse")(ready=self._catalogue.ready),
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._turn("RepositoryModelLoadResponse", on=True),
            "RepositoryModelUnload": self._turn("RepositoryModelUnloadResponse", on=False),
        }
        methods: dict[str, Unary | Streaming] = {
            f"/{SERVICE}/{name}": Unary(_message(f"{name}Request"), _at_once(name, answer))
            for name, answer in plain.items()
        }
        request = _message("ModelInferRequest")
        methods[f"/{SERVICE}/ModelInfer"] = Unary(request, self._model_infer, unread=True)
        methods[f"/{SERVICE}/ModelStreamInfer"] = Streaming(request, self._model_stream_infer)
        return methods

    async def _model_infer(self, payload: bytes, rpc: Rpc) -> Payload:
        request, raw = read_request(payload)
        written: Payload = await self._inferred(request, raw, rpc, rpc.unless_gone, write_response)
        return written

    async def _inferred(
        self,
        request: Any,
        raw: Raw,
        rpc: Rpc,
        wait: Callable[[Awaitable[Any]], Awaitable[Any]],
        respond: Callable[..., Any],
    ) -> Any:
        target = _target(request.model_name, request.model_version)
        rpc.allow(target.model)
        tensors, rpc.asked = self._tensors_of(target)
        tensors.refuse_others((part.name for part in request.inputs), len(request.inputs))
        wanted = tensors.wanted(part.name for part in request.outputs)
        _refuse_unserved(request)
        batch = await apart(
            sum(map(len, raw)),
            lambda: tensors.accept(tensors_of(request, raw), max_rows=self._max_rows),
        )
        deadline = _sooner(rpc.deadline, request.parameters)
        call = rpc.call_until(deadline)
        answer: Answer = await wait(self._dataplane.infer(target, batch, call))
        response = respond(
            tensors.give(answer.outputs, wanted),
            model=answer.model,
            version=answer.version,
            request_id=request.id,
        )
        if answer.cache is not None:
            if wait is _only_wait:  # one of a stream, whose end is that of all
                told = cache_status(answer.cache).decode()
                response.parameters[HEADER.decode()].string_param = told
            else:
                rpc.tell_cache(answer)
        return response

    def _tensors_of(self, target: Target) -> tuple[Tensors, tuple[str, str]]:
        """The tensors of `target`, and the model and version that it is."""
        known = self._tensors.get(target)
        if known is None:
            loaded = self._dataplane.fleet.resolve(target)
            known = Tensors(loaded.signature), (loaded.name, loaded.version)
            self._tensors[target] = known
        return known

    async def _model_stream_infer(
        self, requests: AsyncIterator[Any], rpc: Rpc
    ) -> AsyncIterator[bytes]:
        async def begin(request: Any) -> bytes:
            written: bytes = (await self._streamed(request, rpc)).SerializeToString()
            return written

        answers = in_order(requests, begin)
        try:
            async for answer in answers:
                yield answer.result()
        finally:
            await answers.aclose()

    async def _streamed(self, request: Any, rpc: Rpc) -> Any:
        """The answer to one request of a stream: what fails is told in it, the stream goes on."""
        try:
            response = await self._inferred(
                request, request.raw_input_contents, rpc, _only_wait, response_of
            )
        except (ForetellError, GrpcRefusal) as error:
            rpc.log(error)
            failed = self._stream_response(error_message=error.message)
            failed.infer_response.id = request.id
            failed.infer_response.model_name = request.model_name
            return failed
        if parameter(request.parameters["triton_enable_empty_final_response"]):
            response.parameters["triton_final_response"].bool_param = True
        return self._stream_response(infer_response=response)

    def _model_ready(self, request: Any) -> Any:
        target = _target(request.name, request.version)
        return _message("ModelReadyResponse")(ready=self._catalogue.is_ready(target))

    def _server_metadata(self, _: Any) -> Any:
        return _message("ServerMetadataResponse")(
            name=NAME, version=self._catalogue.version, extensions=EXTENSIONS
        )

    def _model_metadata(self, request: Any) -> Any:
        about = self._catalogue.about(_target(request.name, request.version))
        response = _message("ModelMetadataResponse")(
            name=about.name, versions=about.versions, platform=about.platform
        )
        # what the protocol has no words for: missing values, categories, bounds, class labels
        response.properties["signature"] = json.dumps(about.signature.describe())
        for side, fields in (
            (response.inputs, about.signature.inputs),
            (response.outputs, about.signature.outputs),
        ):
            for field in fields:
                side.add(name=field.name, datatype=field.datatype.value, shape=shape_of(field))
        return response

    def _model_config(self, request: Any) -> Any:
        about = self._catalogue.about(_target(request.name, request.version))
        response = _message("ModelConfigResponse")()
        config = response.config
        config.name, config.platform, config.backend = about.name, about.platform, NAME
        config.max_batch_size = about.max_batch_rows
        config.dynamic_batching.max_queue_delay_microseconds = int(about.max_wait_s * 1e6)
        for side, fields in (
            (config.input, about.signature.inputs),
            (config.output, about.signature.outputs),
        ):
            for field in fields:
                side.add(name=field.name, data_type=_type_of(field), dims=field.shape or (1,))
        return response

    def _model_statistics(self, request: Any) -> Any:
        asked = _target(request.name, request.version) if request.name else None
        response = _message("ModelStatisticsResponse")()
        for one in self._catalogue.statistics(asked):
            _fill(response.model_stats.add(), one)
        return response

    def _repository_index(self, request: Any) -> Any:
        response = _message("RepositoryIndexResponse")()
        for one in self._catalogue.index(only_ready=request.ready):
            response.models.add(
                name=one.name, version=one.version, state=one.state, reason=one.reason
            )
        return response

    def _turn(self, response: str, *, on: bool) -> Callable[[Any], Any]:
        def turn(request: Any) -> Any:
            self._catalogue.turn(request.model_name, on=on)
            return _message(response)()

        return turn


def _at_once(name: str, answer: Callable[[Any], Any]) -> Callable[[Any, Rpc], Awaitable[bytes]]:
    field = _NAMES_A_MODEL.get(name)

    async def answered(request: Any, rpc: Rpc) -> bytes:
        if field is not None:
            rpc.allow(getattr(request, field) or None)
        written: bytes = answer(request).SerializeToString()
        return written

    return answered


def _refuse_unserved(request: Any) -> None:
    """Raise InvalidInput for what would change the answer and is not done over gRPC."""
    for part in (*request.inputs, *request.outputs):
        told = part.parameters
        for name, what in _UNSERVED.items() if told else ():
            if name in told:
                raise InvalidInput(f"'{part.name}' asks for {what}", field=part.name)


async def _only_wait(work: Awaitable[Any]) -> Any:
    return await work


def _message(name: str) -> Any:
    return messages.message(f"inference.{name}")


def _target(name: str, version: str) -> Target:
    if not name:
        raise NotFound("no model is named; fill in the model's name")
    return Target(name, version or None)


def _sooner(deadline: float | None, parameters: Any) -> float | None:
    """The deadline, or the request's own `timeout` (microseconds), whichever comes first."""
    if "timeout" not in parameters:
        return deadline
    told = parameter(parameters["timeout"])
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= _MOST_TIMEOUT_US:
        raise InvalidInput(
            f"the parameter 'timeout' is {told!r}, but must be a number of microseconds "
            f"from 0 to {_MOST_TIMEOUT_US}"
        )
    if told == 0:  # Triton's client sends it when none was set
        return deadline
    own = time.monotonic() + told / 1e6
    return own if deadline is None else min(own, deadline)


def _type_of(field: Field) -> str:
    return "TYPE_STRING" if field.datatype is Datatype.BYTES else f"TYPE_{field.datatype}"


def _fill(stats: Any, told: Statistics) -> None:
    tally = told.tally
    stats.name, stats.version = told.name, told.version
    stats.last_inference = told.last_run_ms
    stats.inference_count, stats.execution_count = tally.rows, tally.batches
    parts, done = stats.inference_stats, tally.requests - tally.failed
    parts.success.count = done
    parts.success.ns = int((tally.waited_s + tally.ran_s) * 1e9)
    parts.fail.count = tally.failed
    parts.queue.count, parts.queue.ns = tally.requests, int(tally.waited_s * 1e9)
    parts.compute_infer.count, parts.compute_infer.ns = tally.requests, int(tally.ran_s * 1e9)
