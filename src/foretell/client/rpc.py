"""gRPC as the clients speak it, to `inference.GRPCInferenceService`: messages in and out; no I/O.

The Open Inference Protocol tells a model's names, datatypes and shapes, but not which values may
be missing or which categories there are. What a server does not tell is left to it to judge.
"""

import json
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from foretell.client.asking import Description
from foretell.client.calling import Kind, Outcome, Reply, Request
from foretell.client.failures import broken, late, rebuilt, unreachable, untrusted
from foretell.client.predictions import Predictions
from foretell.codecs import messages
from foretell.codecs.asking.messages import answered_tensors, request_of
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import ForetellError

SERVICE = "inference.GRPCInferenceService"
SIGNATURE = "signature"
"""The property of a model's metadata in which a Foretell server tells the whole signature."""

_CODES = {  # for servers that send no details
    3: "invalid_input",
    4: "deadline_exceeded",
    5: "not_found",
    7: "forbidden",
    8: "overloaded",
    9: "invalid_input",
    11: "invalid_input",
    12: "invalid_input",
    14: "not_ready",
    16: "unauthenticated",
}
_UNAVAILABLE = 14
_DEADLINE_EXCEEDED = 4
_KINDS = {"overloaded": Kind.SHED, "not_ready": Kind.UNREADY}


class RpcLanguage:
    """ModelMetadata and ModelInfer, tensors as raw bytes."""

    per_version = True

    def describe(self, model: str, version: str | None) -> Request:
        """The metadata of one version, or of the one that answers."""
        message = _message("ModelMetadataRequest")(name=model, version=version or "")
        return Request(f"/{SERVICE}/ModelMetadata", message.SerializeToString())

    def description(self, reply: Reply, model: str, version: str | None) -> Description:
        told = _parsed("ModelMetadataResponse", reply.body)
        if SIGNATURE in told.properties:
            signature = Signature.from_description(json.loads(told.properties[SIGNATURE]))
        else:
            signature = Signature(_fields(told.inputs), _fields(told.outputs))
        routed = version or (told.versions[0] if told.versions else "")
        return Description(model, routed, {routed: signature})

    def ask(self, signature: Signature, batch: Batch, model: str, version: str | None) -> Request:
        message = request_of(batch, model=model, version=version)
        return Request(f"/{SERVICE}/ModelInfer", message.SerializeToString())

    def answer(self, reply: Reply, asked: Request, described: Description) -> Predictions | None:
        told = _parsed("ModelInferResponse", reply.body)
        outputs = {tensor.name: tensor.values for tensor in answered_tensors(told)}
        return Predictions(told.model_name, told.model_version, outputs)


def outcome_of(code: int, words: str, trailers: Iterable[tuple[str, Any]], url: str) -> Outcome:
    """What a status other than OK means; `trailers` are the metadata that came with it."""
    told = dict(trailers)
    details = told.get("grpc-status-details-bin")
    error = None if details is None else _detailed(details, url)
    if error is not None:
        return Outcome(_KINDS.get(error.code, Kind.ANSWERED), error=error)
    if code == _UNAVAILABLE and "x-request-id" not in told:
        if "CERTIFICATE_VERIFY_FAILED" in words:
            return Outcome(Kind.SPOILT, error=untrusted(url, words))
        if "connect" in words.lower() and "reset" not in words.lower():
            return Outcome(Kind.REFUSED, error=unreachable(url, words))
        return Outcome(Kind.BROKEN, error=broken(url, words))
    if code == _DEADLINE_EXCEEDED and "x-request-id" not in told:
        return Outcome(Kind.SILENT, error=late(url))
    slug = _CODES.get(code, "no_answer")
    return Outcome(_KINDS.get(slug, Kind.ANSWERED), error=rebuilt(slug, words))


def _detailed(details: bytes, url: str) -> ForetellError | None:
    """The error in google.rpc details of ours; None when they are somebody else's."""
    try:
        status = messages.message("google.rpc.Status").FromString(details)
        parts = {part.type_url.rpartition("/")[2]: part.value for part in status.details}
        info = messages.message("google.rpc.ErrorInfo").FromString(
            parts.get("google.rpc.ErrorInfo", b"")
        )
        rest_s = None
        if "google.rpc.RetryInfo" in parts:
            retry = messages.message("google.rpc.RetryInfo").FromString(
                parts["google.rpc.RetryInfo"]
            )
            rest_s = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
    except DecodeError:
        return None
    if not info.reason:
        return None
    row = info.metadata.get("row", "")
    error = rebuilt(
        info.reason.lower(),
        status.message,
        field=info.metadata.get("field"),
        row=int(row) if row.isascii() and row.isdigit() else None,
        retry_after_s=rest_s,
    )
    if "request_id" in info.metadata:
        error.add_note(f"request {info.metadata['request_id']} to {url}")
    return error


def _fields(told: Iterable[Any]) -> tuple[Field, ...]:
    fields = []
    for tensor in told:
        datatype = Datatype(tensor.datatype)
        shape = tuple(-1 if size < 0 else size for size in tensor.shape[1:])
        fields.append(Field(tensor.name, datatype, shape=shape, nullable=not datatype.is_integer))
    return tuple(fields)


def _parsed(name: str, body: bytes) -> Any:
    try:
        return _message(name).FromString(body)
    except DecodeError as error:
        raise ValueError(f"no {name}: {error}") from error


def _message(name: str) -> Any:
    return messages.message(f"inference.{name}")
