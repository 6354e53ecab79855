"""Messages are the protobuf messages of every gRPC service, in a descriptor pool of their own.

Triton's, KServe's and MLServer's libraries all register `inference.*` in protobuf's default pool,
where a name can be registered once. In a pool of its own, Foretell's can live beside any of them.

`descriptors.binpb` is made from `protos/` by `make protos`; a test makes it again and compares.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

_MADE = importlib.resources.files("foretell.codecs") / "protos" / "descriptors.binpb"


@functools.cache
def pool() -> DescriptorPool:
    """The pool that holds the files of `protos/`."""
    made = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(_MADE.read_bytes()).file:
        made.Add(file)  # each comes after those it imports
    return made


@functools.cache
def message(name: str) -> Any:
    """The class of the message with this full name, as in `inference.ModelInferRequest`.

    Raises KeyError.
    """
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def service(name: str) -> ServiceDescriptor:
    """What is known of the service with this full name. Raises KeyError."""
    return pool().FindServiceByName(name)


def file_of(symbol: str) -> FileDescriptor:
    """The file that defines a message, service or enum. Raises KeyError."""
    return pool().FindFileContainingSymbol(symbol)


def file_named(path: str) -> FileDescriptor:
    """The file that others import by `path`. Raises KeyError."""
    return pool().FindFileByName(path)
