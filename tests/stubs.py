"""Stubs for real gRPC clients, made of the descriptors of Foretell's own pool."""

from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from foretell.codecs import messages


def stub(channel: Any, service: str) -> Any:
    """The methods of `service` by name, for a channel of grpc or of grpc.aio."""
    methods = {}
    for method in messages.service(service).methods:
        kind = (
            f"{'stream' if method.client_streaming else 'unary'}_"
            f"{'stream' if method.server_streaming else 'unary'}"
        )
        answer = message_factory.GetMessageClass(method.output_type)
        methods[method.name] = getattr(channel, kind)(
            f"/{service}/{method.name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )
    return SimpleNamespace(**methods)


def details(error: grpc.RpcError) -> dict[str, Any]:
    """What grpc-status-details-bin says: reason, metadata, violations, retry."""
    status = rpc_status.from_call(error)
    told: dict[str, Any] = {}
    for part in () if status is None else status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if part.Is(kind.DESCRIPTOR):
                one = kind()
                part.Unpack(one)
                told[kind.__name__] = one
    return told
