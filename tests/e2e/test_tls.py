"""TLS and mTLS: real clients of both protocols, right and wrong certificates."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from foretell.client.clients import Client
from foretell.errors import DeadlineExceeded, NoAnswer
from tests.servers import START_S, Server, start

pytestmark = pytest.mark.slow

ROW = {"age": 35, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}


def certificate(authority: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a certificate of `authority` and of its key."""
    issued = authority.issue_cert(name)
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    return cert, key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ours(folder: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return authority


@pytest.fixture(scope="module", params=["h2corn", "uvicorn"])
def server(
    request: pytest.FixtureRequest, churn: Path, folder: Path, ours: trustme.CA
) -> Iterator[Server]:
    cert, key = certificate(ours, folder, "127.0.0.1")
    arguments: list[str | Path] = ["--certfile", cert, "--keyfile", key]
    arguments += ["--client-cafile", folder / "ca.pem", "--server", request.param]
    server = start(churn, *arguments)
    assert server._listening.wait(START_S), server.log
    yield server
    assert server.stop() == 0, server.log


def test_a_client_with_a_certificate_is_answered_over_both_protocols(
    server: Server, folder: Path, ours: trustme.CA, request: pytest.FixtureRequest
) -> None:
    own = certificate(ours, folder, "client.test")
    place = urlsplit(server.url).netloc
    schemes = ["https"] if "uvicorn" in request.node.name else ["https", "grpcs"]
    for scheme in schemes:
        with Client(f"{scheme}://{place}", verify=folder / "ca.pem", cert=own) as client:
            assert client.predict("churn", ROW)


def test_a_client_without_one_is_not(
    server: Server, folder: Path, request: pytest.FixtureRequest
) -> None:
    place = urlsplit(server.url).netloc
    schemes = ["https"] if "uvicorn" in request.node.name else ["https", "grpcs"]
    for scheme in schemes:
        client = Client(f"{scheme}://{place}", verify=folder / "ca.pem", timeout_s=5)
        with client, pytest.raises((NoAnswer, DeadlineExceeded)):
            client.predict("churn", ROW)


def test_a_certificate_of_another_authority_is_refused(server: Server, folder: Path) -> None:
    cert, key = certificate(trustme.CA(), folder, "stranger.test")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(cert, key)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/health", verify=context)
