"""A real gateway in front of three real servers: who answers, who may ask, what is lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from foretell.codecs import messages
from foretell.packing import pack
from tests.deploy.daemons import until
from tests.gateways import Gateway, gateway, is_alive
from tests.servers import Server, running, start
from tests.stubs import stub

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gateway")]

QUICK, SLOW = {"features": [0.0, 2.5]}, {"features": [1.5, 2.5]}
KEY = "3f1a" * 8


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sleeping")
    code = Path(__file__).parents[1]
    for name in ("sleeping", "other"):
        files: list[str | Path] = ["sleeping_model:Sleeping"]
        pack(files, name=name, repository=folder, python_path=code)
    return folder


OPTIONS = ("--executor", "thread", "--default-model", "sleeping", "--drain-grace-s", "3")


@pytest.fixture(scope="module")
def servers(repository: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running(repository, *OPTIONS)) for _ in range(3)]


@pytest.fixture(scope="module")
def urls(servers: list[Server]) -> list[str]:
    return [server.url for server in servers]


def answered(url: str) -> float:
    """How many predictions a server has answered."""
    told = httpx.get(f"{url}/metrics").text
    lines = (line for line in told.splitlines() if line.startswith("prediction_total{"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def shares(urls: list[str], ask: Callable[[], None]) -> list[int]:
    """How many predictions each server answered meanwhile."""
    before = [answered(url) for url in urls]
    ask()
    return [int(answered(url) - was) for url, was in zip(urls, before, strict=True)]


def predict(at: Gateway, body: object = None, **headers: str) -> httpx.Response:
    return httpx.post(f"{at.url}/predict", json=body or QUICK, headers=headers, timeout=30)


def asks(at: Gateway, count: int, **headers: str) -> Callable[[], None]:
    """So many calls of one client, all of which are answered."""

    def ask() -> None:
        with httpx.Client() as client:
            for _ in range(count):
                reply = client.post(f"{at.url}/predict", json=QUICK, headers=headers)
                assert reply.status_code == 200, reply.text

    return ask


class TestStrategies:
    def test_round_robin_gives_each_the_same(self, urls: list[str], tmp_path: Path) -> None:
        with gateway(tmp_path, upstreams=urls) as at:
            at.until_healthy(3)
            assert shares(urls, asks(at, 60)) == [20, 20, 20]

    def test_grpc_calls_of_one_channel_are_spread(self, urls: list[str], tmp_path: Path) -> None:
        request = messages.message("prediction.PredictRequest")(features=[0.0, 2.5])

        def ask() -> None:
            with grpc.insecure_channel(at.address) as channel:
                method = stub(channel, "prediction.PredictionService").Predict
                assert all(method(request).prediction == 1 for _ in range(60))

        with gateway(tmp_path, upstreams=urls) as at:
            at.until_healthy(3)
            assert shares(urls, ask) == [20, 20, 20]

    def test_weights_are_shares(self, urls: list[str], tmp_path: Path) -> None:
        told = [f"{url}={weight}" for url, weight in zip(urls, (1, 2, 5), strict=True)]
        with gateway(tmp_path, strategy="weighted", upstreams=told) as at:
            at.until_healthy(3)
            found = shares(urls, asks(at, 160))
        assert all(abs(one - wanted) <= 3 for one, wanted in zip(found, (20, 40, 100), strict=True))

    def test_an_address_stays_with_its_server(self, urls: list[str], tmp_path: Path) -> None:
        def from_(source: str) -> Callable[[], None]:
            def ask() -> None:
                for _ in range(6):
                    link = http.client.HTTPConnection(at.address, source_address=(source, 0))
                    link.request("POST", "/predict", json.dumps(QUICK))
                    assert link.getresponse().status == 200
                    link.close()

            return ask

        with gateway(tmp_path, strategy="ip_hash", upstreams=urls) as at:
            at.until_healthy(3)
            found = [shares(urls, from_(f"127.0.0.{last}")) for last in range(2, 22)]
        assert all(sorted(one) == [0, 0, 6] for one in found)
        spread = Counter(one.index(6) for one in found)
        assert len(spread) == 3  # 20 addresses miss one of three servers once in 1,100 cases

    def test_who_has_the_fewest_calls_gets_the_next(self, urls: list[str], tmp_path: Path) -> None:
        """One server is kept busy with another model, so that none of these calls waits for it."""
        with gateway(tmp_path, strategy="least_connections", upstreams=urls) as at:
            at.until_healthy(3)
            with ThreadPoolExecutor(1) as pool:
                path = f"{at.url}/models/other/predict"
                first = pool.submit(httpx.post, path, json={"features": [8.0, 2.5]}, timeout=30)
                metric = "envoy_cluster_upstream_rq_active"
                until(lambda: at.metric(metric, envoy_cluster_name="default") == 1)
                found = shares(urls, asks(at, 90))
                assert first.result().status_code == 200
        # Of two servers picked at random the idle one is taken: the busy one only against itself.
        busy = min(found)
        assert busy <= 22  # a ninth of 90 is 10: more than 22 in one of 7,000 runs
        assert sum(found) == 90


class TestGroups:
    def test_models_and_prefixes_go_to_their_servers(self, urls: list[str], tmp_path: Path) -> None:
        groups = {
            "others": {"models": ["other"], "upstreams": [urls[1]]},
            "raw": {"prefixes": ["/invocations"], "upstreams": [urls[2]]},
        }
        body = {"features": [0.0, 2.5]}

        def post(path: str, told: object = body) -> Callable[[], None]:
            def ask() -> None:
                reply = httpx.post(f"{at.url}{path}", json=told)
                assert reply.status_code == 200, reply.text

            return ask

        with gateway(tmp_path, upstreams=[urls[0]], groups=groups) as at:
            for name in ("default", "others", "raw"):
                at.until_healthy(1, name)
            assert shares(urls, post("/models/other/predict")) == [0, 1, 0]
            assert shares(urls, post("/models/sleeping/predict")) == [1, 0, 0]
            rows = {"instances": [[0.0, 2.5]]}
            assert shares(urls, post("/v1/models/other:predict", rows)) == [0, 1, 0]
            assert shares(urls, post("/invocations", {"inputs": [[0.0, 2.5]]})) == [0, 0, 1]
            request = messages.message("prediction.PredictRequest")(features=[0.0, 2.5])

            def call() -> None:
                with grpc.insecure_channel(at.address) as channel:
                    method = stub(channel, "prediction.PredictionService").Predict
                    method(request, metadata=[("model-name", "other")])

            assert shares(urls, call) == [0, 1, 0]

    def test_a_canary_by_header_and_by_share(self, urls: list[str], tmp_path: Path) -> None:
        canary = {"upstreams": [urls[2]], "percent": 25, "header": "x-canary=yes"}
        with gateway(tmp_path, upstreams=urls[:2], canary=canary) as at:
            at.until_healthy(2)
            at.until_healthy(1, "canary")
            assert shares(urls, asks(at, 20, **{"x-canary": "yes"})) == [0, 0, 20]
            share = shares(urls, asks(at, 400))[2]
        assert 57 <= share <= 143  # 100 by expectation, 5 standard deviations of 8.7

    def test_a_name_stands_for_its_addresses(self, urls: list[str], tmp_path: Path) -> None:
        named = [url.replace("127.0.0.1", "localhost") for url in urls]
        with gateway(tmp_path, upstreams=named) as at:
            at.until_healthy(3)  # one of a name may be of IPv6, where nobody listens
            assert shares(urls, asks(at, 30)) == [10, 10, 10]

    def test_a_path_of_nobodys_is_not_found(self, urls: list[str], tmp_path: Path) -> None:
        groups = {"others": {"models": ["other"], "upstreams": [urls[0]]}}
        with gateway(tmp_path, groups=groups) as at:
            reply = predict(at, **{"x-request-id": "mine"})
        assert reply.status_code == 404
        told = reply.json()
        assert (told["code"], told["request_id"]) == ("not_found", "mine")


class TestLimits:
    def test_what_takes_too_long_or_is_too_large(self, urls: list[str], tmp_path: Path) -> None:
        with gateway(tmp_path, upstreams=urls, timeout_s=0.5, max_body_bytes=1000) as at:
            at.until_healthy(3)
            late = predict(at, SLOW)
            assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
            large = predict(at, {"features": [0.0] * 500})
            assert (large.status_code, large.json()["code"]) == (413, "too_large")
            assert _status_of_length(at, 2**63) == 413
            assert predict(at).status_code == 200

    def test_a_client_that_asks_too_often_waits(self, urls: list[str], tmp_path: Path) -> None:
        request = messages.message("prediction.PredictRequest")(features=[0.0, 2.5])
        limit = {"requests_per_s": 5, "burst": 10}
        with gateway(tmp_path, upstreams=urls, rate_limit=limit) as at:
            at.until_healthy(3)
            replies = [predict(at) for _ in range(30)]
            refused = [reply for reply in replies if reply.status_code == 429]
            assert 10 <= len(replies) - len(refused) < 30
            assert refused[0].json()["code"] == "overloaded"
            assert refused[0].headers["retry-after"] == "1"
            link = http.client.HTTPConnection(at.address, source_address=("127.0.0.9", 0))
            link.request("POST", "/predict", json.dumps(QUICK))
            assert link.getresponse().status == 200  # another client is another bucket
            link.close()
            with grpc.insecure_channel(at.address) as channel:
                method = stub(channel, "prediction.PredictionService").Predict
                with pytest.raises(grpc.RpcError) as caught:
                    [method(request) for _ in range(30)]
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    def test_only_who_has_a_key_may_ask(self, urls: list[str], tmp_path: Path) -> None:
        keys = tmp_path / "keys"
        keys.write_text(f"# who may ask\nshop {KEY}\n")
        with gateway(tmp_path, upstreams=urls, api_keys_file="keys") as at:
            at.until_healthy(3)
            for wrong in ({}, {"x-api-key": KEY[::-1]}):
                reply = predict(at, **wrong)
                assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
            assert predict(at, **{"x-api-key": KEY}).status_code == 200
            assert predict(at, authorization=f"Bearer {KEY}").status_code == 200
            other = "9c" * 16
            keys.write_text(f"shop {other}\n")
            until(lambda: predict(at, **{"x-api-key": other}).status_code == 200)
            assert predict(at, **{"x-api-key": KEY}).status_code == 401


def _status_of_length(at: Gateway, size: int) -> int:
    """What a request is answered that says it is so long."""
    link = http.client.HTTPConnection(at.address, timeout=30)
    link.putrequest("POST", "/predict")
    link.putheader("content-length", str(size))
    link.endheaders()
    status = link.getresponse().status
    link.close()
    return status


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], int]) -> Iterator[str]:
    """The URL of a server without a body to any GET, with the status that `answer` gives."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer(self))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_only_the_gateway_says_who_asks(tmp_path: Path) -> None:
    """A server that believes `x-client` must not hear it from a client."""
    came: list[str | None] = []

    def answer(asked: BaseHTTPRequestHandler) -> int:
        came.append(asked.headers["x-client"])
        return 200

    with answering(answer) as url, gateway(tmp_path, upstreams=[url]) as at:
        at.until_healthy(1)
        came.clear()
        reply = httpx.get(f"{at.url}/health/ready", headers={"x-client": "root"})
        assert reply.status_code == 200
        assert came
    assert "root" not in came


def test_where_no_server_seems_well_all_are_asked(tmp_path: Path) -> None:
    """One may have been too busy to say that it is: a refusal of the gateway's would be wrong."""
    checks = 0

    def answer(asked: BaseHTTPRequestHandler) -> int:
        nonlocal checks
        is_check = "health" in asked.path
        checks += is_check
        return 503 if is_check else 200

    with answering(answer) as url, gateway(tmp_path, upstreams=[url], health_every_s=0.1) as at:
        until(lambda: checks > 4)
        assert at.healthy() == 0
        assert httpx.get(f"{at.url}/models").status_code == 200


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class TestIdentity:
    def test_tokens_must_be_signed_for_this_gateway_and_valid(
        self, urls: list[str], tmp_path: Path
    ) -> None:
        ours, others = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        jwk = json.loads(RSAAlgorithm.to_jwk(ours.public_key())) | {"kid": "one", "alg": "RS256"}
        (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
        jwt_ = {"issuer": "https://id.test", "audiences": ["models"], "jwks_file": "jwks.json"}
        with gateway(tmp_path, upstreams=urls, jwt={**jwt_, "leeway_s": 5}) as at:
            at.until_healthy(3)

            def status(key: Any = ours, **claims: object) -> int:
                told = {"iss": "https://id.test", "aud": "models", "exp": time.time() + 60}
                token = jwt.encode(told | claims, key, "RS256", headers={"kid": "one"})
                return predict(at, authorization=f"Bearer {token}").status_code

            assert status() == 200
            assert status(exp=time.time() - 60) == 401  # expired
            assert status(key=others) == 401  # wrongly signed
            assert status(aud="elsewhere") == 403  # for somebody else
            assert status(iss="https://other.test") == 401
            refused = predict(at)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
            assert httpx.get(f"{at.url}/health/ready").status_code == 200
            request = messages.message("prediction.PredictRequest")(features=[0.0, 2.5])
            with grpc.insecure_channel(at.address) as channel:
                method = stub(channel, "prediction.PredictionService").Predict
                with pytest.raises(grpc.RpcError) as caught:
                    method(request)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            jwk = json.loads(RSAAlgorithm.to_jwk(others.public_key())) | {"kid": "one"}
            (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
            until(lambda: status(key=others) == 200)  # without a restart
            assert status() == 401

    def test_tls_with_a_certificate_of_the_client(
        self, urls: list[str], tmp_path: Path, authority: trustme.CA
    ) -> None:
        own, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("shop.test")
        own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
        client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        tls = {"certfile": "own.pem", "keyfile": "own.pem", "client_cafile": "ca.pem"}
        with gateway(tmp_path, upstreams=urls, tls=tls) as at:
            at.until_healthy(3)
            url, trust = f"https://{at.address}/predict", ssl.create_default_context()
            authority.configure_trust(trust)
            with pytest.raises(httpx.TransportError):
                httpx.post(url, json=QUICK, verify=trust)
            trust.load_cert_chain(tmp_path / "client.pem")
            assert httpx.post(url, json=QUICK, verify=trust).status_code == 200
            pem = (tmp_path / "client.pem").read_bytes()
            known = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes(), pem, pem)
            with grpc.secure_channel(at.address, known) as channel:
                request = messages.message("prediction.PredictRequest")(features=[0.0, 2.5])
                method = stub(channel, "prediction.PredictionService").Predict
                assert method(request).prediction == 1

    def test_servers_are_asked_over_tls(
        self, repository: Path, tmp_path: Path, authority: trustme.CA
    ) -> None:
        own = authority.issue_cert("127.0.0.1")
        own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        files = ("--certfile", tmp_path / "own.pem", "--keyfile", tmp_path / "own.pem")
        with running(repository, *OPTIONS, *files) as server:
            told = {"upstreams": [server.url], "upstream_cafile": "ca.pem"}
            with gateway(tmp_path, **told) as at:
                at.until_healthy(1)
                assert predict(at).status_code == 200
                request = messages.message("prediction.PredictRequest")(features=[0.0, 2.5])
                with grpc.insecure_channel(at.address) as channel:
                    method = stub(channel, "prediction.PredictionService").Predict
                    assert method(request).prediction == 1
                at.write({**told, "upstream_cafile": "other.pem"})
                until(lambda: predict(at).status_code == 503)


class Load:
    """Clients without retries at full speed, over HTTP/1.1 and gRPC, until it is left."""

    def __init__(self, at: Gateway, clients: int = 12, callers: int = 4) -> None:
        self._at = at
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients + callers)
        self._asking = [self._pool.submit(self._rest) for _ in range(clients)]
        self._asking += [self._pool.submit(self._grpc) for _ in range(callers)]

    def _rest(self) -> int:
        link = http.client.HTTPConnection(self._at.address, timeout=30)
        body, count = json.dumps(QUICK), 0
        while not self._stop.is_set():
            link.request("POST", "/predict", body)
            reply = link.getresponse()
            told = reply.read()
            assert reply.status == 200, told
            count += 1
        link.close()
        return count

    def _grpc(self) -> int:
        request = messages.message("prediction.PredictRequest")(features=[0.0, 2.5])
        count = 0
        with grpc.insecure_channel(self._at.address, [("grpc.enable_retries", 0)]) as channel:
            ask = stub(channel, "prediction.PredictionService").Predict
            while not self._stop.is_set():
                assert ask(request, timeout=30).prediction == 1
                count += 1
        return count

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with self._pool:
            assert all(one.result() > 0 for one in self._asking)


class TestChanges:
    def test_servers_come_and_go_without_losing_a_call(
        self, urls: list[str], tmp_path: Path
    ) -> None:
        with gateway(tmp_path, upstreams=urls[:2]) as at:
            at.until_healthy(2)
            with Load(at):
                for told in (urls, urls[1:], urls[:1], urls):
                    at.write({"upstreams": told})
                    at.until_healthy(len(told))
            assert shares(urls, asks(at, 30)) == [10, 10, 10]

    def test_settings_that_cannot_be_used_change_nothing(
        self, urls: list[str], tmp_path: Path
    ) -> None:
        with gateway(tmp_path, upstreams=urls) as at:
            at.until_healthy(3)
            at.write({"upstreams": ["ftp://nowhere"]})
            until(lambda: "nothing was changed" in at.log)
            assert "'ftp://nowhere' is no server" in at.log
            assert predict(at).status_code == 200

    def test_nobody_is_let_in_by_settings_that_are_gone(
        self, urls: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "keys").write_text(f"shop {KEY}\n")
        with gateway(tmp_path, upstreams=urls, api_keys_file="keys") as at:
            at.until_healthy(3)
            for said, spoil in (
                ("is empty", lambda: at.config.write_text("")),
                ("everybody might ask", lambda: at.write({"upstreams": urls})),
                ("cannot be read", at.config.unlink),
            ):
                spoil()
                until(lambda said=said: said in at.log, lambda: at.log)  # type: ignore[misc]
                assert predict(at).status_code == 401
                assert predict(at, **{"x-api-key": KEY}).status_code == 200

    def test_what_envoy_refuses_is_taken_back(self, urls: list[str], tmp_path: Path) -> None:
        with gateway(tmp_path, upstreams=urls) as at, socket.create_server(("127.0.0.1", 0)) as one:
            at.until_healthy(3)
            taken = f"127.0.0.1:{one.getsockname()[1]}"
            at.write({"upstreams": urls, "timeout_s": 0.5, "metrics_bind": taken})
            until(lambda: "nothing was changed" in at.log, lambda: at.log)
            assert at.healthy() == 3  # where it was told before
            assert predict(at, SLOW).status_code == 200  # without that limit

    def test_two_gateways_do_not_share_an_address(self, urls: list[str], tmp_path: Path) -> None:
        (other := tmp_path / "other").mkdir()
        with gateway(tmp_path, upstreams=urls) as at:
            second = Gateway(other, {"upstreams": urls, "bind": at.address})
            assert second.process.wait(60) == 1
            assert "is the port taken?" in second.log

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
    def test_a_server_that_goes_loses_no_call(
        self, repository: Path, urls: list[str], tmp_path: Path, how: signal.Signals
    ) -> None:
        third = start(repository, *OPTIONS)
        third.wait()
        with gateway(tmp_path, upstreams=[*urls[:2], third.url]) as at:
            at.until_healthy(3)
            with Load(at):
                third.stop(how)
                at.until_healthy(2)
            again = start(repository, *OPTIONS, "--bind", third.url.removeprefix("http://"))
            again.wait()
            at.until_healthy(3)
            assert again.stop() == 0
            at.until_healthy(2)

    def test_it_lets_calls_end_when_it_is_stopped(self, urls: list[str], tmp_path: Path) -> None:
        with gateway(tmp_path, upstreams=urls, drain_grace_s=3) as at:
            at.until_healthy(3)
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(predict, at, SLOW)
                metric = "envoy_cluster_upstream_rq_active"
                until(lambda: at.metric(metric, envoy_cluster_name="default") == 1)
                assert at.stop() == 0
                assert asked.result().status_code == 200

    def test_neither_is_left_without_the_other(self, urls: list[str], tmp_path: Path) -> None:
        for who, code in (("gateway", -signal.SIGKILL), ("envoy", 1)):
            (folder := tmp_path / who).mkdir()
            at = Gateway(folder, {"upstreams": urls})
            until(lambda at=at: "Listening" in at.log, lambda at=at: at.log)  # type: ignore[misc]
            (envoy,) = at.envoys()
            os.kill(at.process.pid if who == "gateway" else envoy, signal.SIGKILL)
            assert at.process.wait(30) == code
            until(lambda pid=envoy: not is_alive(pid))  # type: ignore[misc]
        assert "Envoy ended by itself" in at.log


def test_no_server_is_said_in_the_shape_of_all_failures(tmp_path: Path) -> None:
    with gateway(tmp_path, upstreams=["http://127.0.0.1:9"]) as at:
        reply = predict(at)
        assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
        with grpc.insecure_channel(at.address) as channel:
            ask: Any = stub(channel, "prediction.PredictionService").Predict
            with pytest.raises(grpc.RpcError) as caught:
                ask(messages.message("prediction.PredictRequest")(features=[0.0, 2.5]))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
