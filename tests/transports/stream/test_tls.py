"""TLS to each broker: who is trusted, who one is, and what is said where that is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from foretell.errors import BadSettings
from foretell.transports.stream import brokers
from tests.transports.stream.consumers import Consumer, stopped
from tests.transports.stream.daemons_tls import (
    Behind,
    Certificates,
    SecureKafka,
    SecureMosquitto,
    SecureNats,
    SecureRabbit,
    SecureRedis,
)
from tests.transports.stream.test_brokers import package, wait_for

__all__ = ["package"]  # a fixture

BROKERS: list[type[Behind]] = [SecureKafka, SecureMosquitto, SecureNats, SecureRabbit, SecureRedis]


@pytest.fixture(params=BROKERS, ids=lambda kind: kind.scheme)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Behind]:
    one: Behind = request.param(tmp_path)
    yield one
    one.stop()


def refused(package: Path, *flags: str) -> str:
    """What is said at once; nothing is waited for."""
    with Consumer(package, *flags) as consumer:
        _, err = consumer.communicate(timeout=20)
    assert consumer.returncode == 1, err
    assert b"secret" not in err
    return err.decode()


@pytest.mark.slow
def test_messages_pass_over_tls_and_wrong_certificates_are_refused_at_once(
    daemon: Behind, package: Path
) -> None:
    daemon.prepare("in", "out", "dead")
    own, ca = daemon.certificates.own, f"ca={daemon.certificates.ca}"
    daemon.put("in", ((b"k", b'{"x":1,"y":2,"n":%d}' % n) for n in range(50)))
    places = [daemon.tls(url, own) for url in (daemon.source("in"), daemon.sink("out"))]
    flags = ["--from", places[0], "--to", places[1], "--key", "n"]
    with Consumer(package, *flags, "--dead-letters", daemon.tls(daemon.sink("dead"), own)) as one:
        wait_for(daemon, 50, one, 40)
        stopped(one)

    stranger = daemon.tls(daemon.source("in"), own.replace(ca, f"ca={daemon.certificates.other}"))
    stranger = stranger.replace("guest:guest@", "").replace("://", "://who:secret@")
    told = refused(package, "--from", stranger)
    assert "its certificate is not trusted" in told
    assert "ca=FILE" in told
    if not isinstance(daemon, SecureKafka):  # the relay, asyncio's, hangs up without an alert
        told = refused(package, "--from", daemon.tls(daemon.source("in"), ca))
        assert "cert= and key=" in told


@pytest.mark.slow
def test_nothing_is_said_in_clear_to_a_nats_without_tls(tmp_path: Path, package: Path) -> None:
    from tests.transports.stream.daemons_nats import Nats

    files, daemon = Certificates(tmp_path), Nats(tmp_path)
    try:
        url = daemon.source("in").replace("nats://", "nats+tls://who:secret@")
        assert "speaks no TLS" in refused(package, "--from", f"{url}&ca={files.ca}")
    finally:
        daemon.stop()


@pytest.mark.parametrize("scheme", ["amqp", "kafka", "mqtt", "nats", "redis"])
def test_files_that_cannot_be_used_are_said_before_anything_is_sent(
    scheme: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    secure = next(one.scheme for one in BROKERS if one.scheme.startswith(scheme))
    wrong = {
        f"{scheme}://h:1/n?ca=x.pem": f"begin the URL with {secure}://",
        f"{secure}://h:1/n?key=x.pem": "needs the certificate",
        f"{secure}://h:1/n?ca={tmp_path}/none.pem": "No such file",
        f"{secure}://h:1/n?cert={tmp_path}/empty.pem": "empty.pem cannot be used",
    }
    for url, said in wrong.items():
        with pytest.raises(BadSettings, match=re.escape(said)):
            brokers.sink_of(url.replace("//", "//who:secret@"), "--to")
