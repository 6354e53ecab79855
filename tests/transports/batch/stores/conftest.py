"""Object stores that run while the tests do, each with an empty bucket."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import fsspec
import pytest

from tests.transports.batch.conftest import repository
from tests.transports.batch.stores.servers import BUCKET, SERVERS, StoreServer, running

__all__ = ["repository"]

Started = Callable[[str], StoreServer]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The server of a scheme, started when it is asked for first; this process uses it, too."""
    servers: dict[str, StoreServer] = {}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        def start(scheme: str) -> StoreServer:
            if scheme not in servers:
                server = SERVERS[scheme](tmp_path_factory.mktemp("stores") / scheme)
                servers[scheme] = stack.enter_context(running(server))
                for name, value in server.environ.items():
                    patch.setenv(name, value)
                fsspec.config.set_conf_env(fsspec.config.conf)
                library(server).mkdir(BUCKET)
            return servers[scheme]

        yield start
        for server in servers.values():
            type(library(server)).clear_instance_cache()


@pytest.fixture(scope="session")
def s3(started: Started) -> StoreServer:
    return started("s3")


_numbers = itertools.count()


@pytest.fixture
def folder(s3: StoreServer) -> str:
    """A folder in S3 that no other test has."""
    return new_folder(s3)


def new_folder(server: StoreServer) -> str:
    return f"{server.scheme}://{BUCKET}/test-{next(_numbers)}"


def library(server: StoreServer) -> Any:
    """fsspec's file system for a server, whatever the environment says."""
    return fsspec.filesystem(server.scheme, use_listings_cache=False, **server.options)
