"""The standard services every gRPC tool expects: health (with Watch) and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.descriptor import FileDescriptor

from foretell.codecs import messages
from foretell.core.call import Target
from foretell.engine.catalogue import Catalogue
from foretell.errors import NotFound
from foretell.transports.grpc.errors import Code
from foretell.transports.grpc.leaving import LOOK_AGAIN_S, Leaving, left, never
from foretell.transports.grpc.rpc import Rpc
from foretell.transports.grpc.wire import Methods, Streaming, Unary

HEALTH = "grpc.health.v1.Health"
REFLECTIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class HealthService:
    """`grpc.health.v1.Health`: of the server (""), of its gRPC services, and of each model."""

    def __init__(
        self, catalogue: Catalogue, services: tuple[str, ...], leaving: Leaving = never
    ) -> None:
        self._catalogue = catalogue
        self._services = services
        self._leaving = leaving
        self._response = messages.message("grpc.health.v1.HealthCheckResponse")

    def methods(self) -> Methods:
        """The methods by path."""
        request = messages.message("grpc.health.v1.HealthCheckRequest")
        return {
            f"/{HEALTH}/Check": Unary(request, self._check),
            f"/{HEALTH}/Watch": Streaming(request, self._watch),
        }

    def _state(self, service: str) -> str:
        """The serving status. Raises NotFound."""
        if service == "" or service in self._services:
            on = self._catalogue.ready
        else:
            on = self._catalogue.is_ready(Target(service))
        return "SERVING" if on else "NOT_SERVING"

    async def _check(self, request: Any, _: Rpc) -> bytes:
        written: bytes = self._response(status=self._state(request.service)).SerializeToString()
        return written

    async def _watch(self, requests: AsyncIterator[Any], rpc: Rpc) -> AsyncIterator[bytes]:
        """The status now, and whenever it changes, until the client leaves, or the server does.

        Clients of a server that leaves learn that it serves no more before the stream ends.
        """
        last = ""
        async for request in requests:
            while True:
                leaving = self._leaving()
                try:
                    state = self._state(request.service)
                except NotFound:
                    state = "SERVICE_UNKNOWN"
                if leaving and state == "SERVING":
                    state = "NOT_SERVING"
                if state != last:
                    yield self._response(status=state).SerializeToString()
                last = state
                if leaving:
                    raise left()
                await rpc.unless_gone(asyncio.sleep(LOOK_AGAIN_S))


class ReflectionService:
    """`grpc.reflection`, which shows the services and their messages to tools such as grpcurl."""

    def __init__(self, package: str, services: tuple[str, ...]) -> None:
        self._package = package
        self._services = services

    def methods(self) -> Methods:
        """The methods by path."""
        request = messages.message(f"{self._package}.ServerReflectionRequest")
        path = f"/{self._package}.ServerReflection/ServerReflectionInfo"
        return {path: Streaming(request, self._info)}

    async def _info(self, requests: AsyncIterator[Any], _: Rpc) -> AsyncIterator[bytes]:
        async for request in requests:
            response = messages.message(f"{self._package}.ServerReflectionResponse")(
                valid_host=request.host, original_request=request
            )
            try:
                self._answer(request, response)
            except KeyError:
                response.error_response.error_code = Code.NOT_FOUND
                response.error_response.error_message = "there is no such file or symbol"
            yield response.SerializeToString()

    def _answer(self, request: Any, response: Any) -> None:
        kind = request.WhichOneof("message_request")
        match kind:
            case "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _with_imports(messages.file_named(request.file_by_filename), response)
            case "file_containing_symbol":
                _with_imports(messages.file_of(request.file_containing_symbol), response)
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                messages.message(name)  # raises KeyError when there is no such type
                response.all_extension_numbers_response.base_type_name = name
            case _:  # these files extend nothing
                raise KeyError(kind)


def _with_imports(file: FileDescriptor, response: Any) -> None:
    """The file and all it imports, each once, those it imports last."""
    files: dict[str, FileDescriptor] = {}
    wanted = [file]
    while wanted:
        one = wanted.pop()
        if one.name not in files:
            files[one.name] = one
            wanted += one.dependencies
    response.file_descriptor_response.file_descriptor_proto.extend(
        one.serialized_pb for one in files.values()
    )
