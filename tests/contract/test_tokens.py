"""Tokens (JWT): what is verified of them, by itself, and by a real server over REST and gRPC."""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from foretell.client.clients import Client
from foretell.errors import BadSettings, Forbidden, NotReady, Unauthenticated
from foretell.transports.asgi.access.grants import Grant, keys_of
from foretell.transports.asgi.access.jwks import SigningKeys, key_set
from foretell.transports.asgi.access.keyring import Keyring
from foretell.transports.asgi.access.tokens import Terms, Tokens, credentials
from tests.servers import running

ISSUER, AUDIENCE = "https://issuer.example", "scores"
ROW = {"age": 35, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}
DEADLINE_S = 30.0
OLD = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NEW = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NEVER: Any = object()


def public(key: Any, kid: str | None = "old", **more: Any) -> dict[str, Any]:
    """The JWK of a key's public half."""
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm: Any = next((v for k, v in kinds.items() if isinstance(key, k)), OKPAlgorithm)
    told: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return told | ({} if kid is None else {"kid": kid}) | more


def write(file: Path, *keys: dict[str, Any]) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"keys": keys}))
    beside.rename(file)


def token(key: Any = OLD, algorithm: str = "RS256", kid: str | None = "old", **claims: Any) -> str:
    """A token that is right but for what is told; NEVER leaves a claim out."""
    now = time.time()
    told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ci", "exp": now + 3600} | claims
    told = {name: value for name, value in told.items() if value is not NEVER}
    return jwt.encode(told, key, algorithm, headers=None if kid is None else {"kid": kid})


def unsigned(header: dict[str, Any], key: bytes | None = None) -> str:
    """A token as no library makes one: of no algorithm, or with the public key as a secret."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ci", "exp": time.time() + 600}

    def packed(part: bytes) -> bytes:
        return urlsafe_b64encode(part).rstrip(b"=")

    text = packed(json.dumps(header).encode()) + b"." + packed(json.dumps(claims).encode())
    signed = b"" if key is None else hmac.digest(key, text, "sha256")
    return (text + b"." + packed(signed)).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    write(path, public(OLD))
    return path


@pytest.fixture
def tokens(file: Path) -> Tokens:
    return Tokens(SigningKeys(str(file)), Terms(ISSUER, AUDIENCE))


PEM = OLD.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
MODULUS = OLD.public_key().public_numbers().n.to_bytes(256, "big")
NOW = time.time()
WRONG = {
    "expired": (token(exp=NOW - 31), "has expired"),
    "not yet": (token(nbf=NOW + 86_400, exp=NOW + 90_000), "not valid yet"),
    "issued in the future": (token(iat=NOW + 86_400, exp=NOW + 90_000), "not valid yet"),
    "wrongly signed": (token(OTHER), "not a valid one"),
    "another audience": (token(aud="other"), "for somebody else"),
    "another audience among several": (token(aud=["other", "scores2"]), "for somebody else"),
    "another issuer": (token(iss="https://other.example"), "not of the issuer"),
    "issuer with a slash": (token(iss=f"{ISSUER}/"), "not of the issuer"),
    "unknown kid": (token(kid="none"), "names no key"),
    "of another kind": (token(NEW, "ES256"), "not a valid one"),
    "alg none": (unsigned({"alg": "none", "kid": "old"}), "not a valid one"),
    "alg None": (unsigned({"alg": "None", "kid": "old"}), "not a valid one"),
    "public key as secret": (unsigned({"alg": "HS256", "kid": "old"}, PEM), "not a valid one"),
    "modulus as secret": (unsigned({"alg": "HS256", "kid": "old"}, MODULUS), "not a valid one"),
    "no end": (token(exp=NEVER), "has no exp"),
    "no audience": (token(aud=NEVER), "no aud|for somebody else"),
    "no issuer": (token(iss=NEVER), "has no iss|not of the issuer"),
    "no subject": (token(sub=NEVER), "has no sub"),
    "a long subject": (token(sub="x" * 256), "1 to 255 letters"),
    "endless": (token(exp=float("inf")), "not a valid one"),
    "garbage": ("a.b.c", "not a valid one"),
    "nested": (f"{urlsafe_b64encode(b'[' * 6000).decode()}.e30.x", "not a valid one"),
    "long": (token(x="x" * 20_000), "at most"),
}


@pytest.mark.parametrize(("sent", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_token_is_refused_with_what_to_do(tokens: Tokens, sent: str, words: str) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated, match=words):
            tokens.grant_of(sent.encode())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (OLD, "RS256"),
        (OLD, "PS512"),
        (NEW, "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_asymmetric_algorithms_are_taken(file: Path, key: Any, algorithm: str) -> None:
    write(file, public(key, kid=None))
    tokens = Tokens(SigningKeys(str(file)), Terms(ISSUER, AUDIENCE))
    assert tokens.grant_of(token(key, algorithm, kid=None).encode()).name == "ci"


def test_a_key_is_used_with_its_own_algorithm_alone(file: Path) -> None:
    write(file, public(OLD, alg="RS512"))
    tokens = Tokens(SigningKeys(str(file)), Terms(ISSUER, AUDIENCE))
    assert tokens.grant_of(token(algorithm="RS512").encode())
    with pytest.raises(Unauthenticated):
        tokens.grant_of(token(algorithm="RS256").encode())


@pytest.mark.parametrize(
    ("scope", "models", "admin"),
    [
        ("openid foretell:models", None, False),
        ("foretell:models:churn foretell:models:plans", {"churn", "plans"}, False),
        (["foretell:models:churn", "foretell:admin", 1], {"churn"}, True),
        ("foretell:adminx models foretell:modelsx", set(), False),
        (NEVER, set(), False),
        (7, set(), False),
    ],
)
def test_the_scope_says_what_may_be_asked(
    tokens: Tokens, scope: Any, models: set[str] | None, admin: bool
) -> None:
    allowed = None if models is None else frozenset(models)
    grant = tokens.grant_of(token(scope=scope).encode())
    assert grant == Grant("ci", allowed, admin, kind="token")


def test_a_verified_token_is_remembered_until_it_ends(file: Path) -> None:
    now = time.time()
    tokens = Tokens(SigningKeys(str(file)), Terms(ISSUER, AUDIENCE, leeway_s=5), lambda: now)
    sent = token(exp=now + 1).encode()
    assert tokens.grant_of(sent) is tokens.grant_of(sent)
    now += 5.9
    assert tokens.grant_of(sent)
    first = tokens.grant_of(sent)
    now += 0.2
    assert tokens.grant_of(sent) is not first  # verified anew, by the clock of PyJWT


def test_what_is_remembered_is_bounded(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell.transports.asgi.access.tokens._MOST_REMEMBERED", 3)
    for n in range(10):
        tokens.grant_of(token(sub=f"caller{n}").encode())
    assert len(tokens._verified) == 3


def test_keys_roll_over_and_a_broken_file_changes_nothing(file: Path) -> None:
    now = 0.0
    tokens = Tokens(SigningKeys(str(file), clock=lambda: now), Terms(ISSUER, AUDIENCE))
    old, new = token().encode(), token(NEW, "ES256", "new").encode()
    assert tokens.grant_of(old)
    write(file, public(OLD), public(NEW, "new"))
    now += 2
    assert tokens.grant_of(old)
    assert tokens.grant_of(new)
    for broken in ("", "{", "[]", '{"keys": []}', '{"keys": [7]}', '{"keys": [{"kty": "oct"}]}'):
        file.write_text(broken)
        now += 2
        assert tokens.grant_of(new)
    write(file, public(NEW, "new"))
    now += 2
    assert tokens.grant_of(new)
    with pytest.raises(Unauthenticated):  # also one that was remembered
        tokens.grant_of(old)


@pytest.mark.parametrize(
    "told",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "old", "alg": "HS256"},
        public(OLD, use="enc"),
        public(OLD, alg="HS256"),
        public(OLD, d="AQAB"),
        public(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        {"kty": "RSA", "kid": "old"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    ],
)
def test_keys_that_are_secret_weak_or_for_something_else_are_not_used(
    told: dict[str, Any],
) -> None:
    with pytest.raises(BadSettings, match="no usable key"):
        key_set(json.dumps({"keys": [told]}).encode(), "here")


def test_keys_and_tokens_are_told_apart(tokens: Tokens, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("")
    assert keys_of({}).names == frozenset()
    grant_of = credentials(Keyring(tmp_path / "keys.toml"), tokens)
    assert grant_of(token().encode()).kind == "token"
    with pytest.raises(Unauthenticated, match="this key is not known"):
        grant_of(b"ftl_x")


@contextmanager
def issuer(answers: list[tuple[int, bytes]]) -> Iterator[str]:
    """A web server that gives the first of `answers`, as long as there is one."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[0]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jwks"
        finally:
            server.shutdown()
            thread.join()


def eventually(grant: Any) -> Any:
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            return grant()
        except (Unauthenticated, NotReady):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_url_is_read_again_when_a_key_is_unknown_and_may_fail_meanwhile() -> None:
    good = json.dumps({"keys": [public(OLD)]}).encode()
    both = json.dumps({"keys": [public(OLD), public(NEW, "new")]}).encode()
    answers = [(503, b"")]
    now = 0.0
    with issuer(answers) as url:
        tokens = Tokens(SigningKeys(url, clock=lambda: now), Terms(ISSUER, AUDIENCE))
        old, new = token().encode(), token(NEW, "ES256", "new").encode()
        with pytest.raises(NotReady):
            tokens.grant_of(old)
        answers[0] = (302, good)
        now += 20
        with pytest.raises(NotReady):
            tokens.grant_of(old)
        answers[0] = (200, good)

        def asked(sent: bytes) -> Grant:
            nonlocal now
            now += 11
            return tokens.grant_of(sent)

        assert eventually(lambda: asked(old))
        for broken in ((500, b""), (200, b"<html>"), (200, b"x" * 2**21)):
            answers[0] = broken
            for _ in range(3):
                now += 400
                assert tokens.grant_of(old)
        answers[0] = (200, both)
        assert eventually(lambda: asked(new))
    now += 400
    assert tokens.grant_of(new)  # nobody is there any more


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["h2corn", "uvicorn"])
def test_a_server_takes_tokens_over_rest_and_grpc(repository: Path, file: Path, kind: str) -> None:
    schemes = ("http", "grpc") if kind == "h2corn" else ("http",)
    flags = ["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE, "--jwt-jwks", str(file)]
    flags += ["--server", kind]
    good, plans = token(scope="foretell:models"), token(scope="foretell:models:plans")
    with running(repository, "--default-model", "churn", "--model-control", *flags) as server:
        place = urlsplit(server.url).netloc
        for scheme in schemes:
            with Client(f"{scheme}://{place}", api_key=good) as client:
                assert client.predict("churn", ROW)
            with Client(f"{scheme}://{place}", api_key=plans) as client, pytest.raises(Forbidden):
                client.predict("churn", ROW)
            for wrong, _ in WRONG.values():
                if len(wrong) > 8000:
                    continue
                wronged = Client(f"{scheme}://{place}", api_key=wrong)
                with wronged, pytest.raises(Unauthenticated):
                    wronged.predict("churn", ROW)
        path = f"{server.url}/v2/repository/models/churn/load"
        for scope, status in (("foretell:models", 403), ("foretell:models foretell:admin", 200)):
            sent = {"authorization": f"Bearer {token(scope=scope)}"}
            assert httpx.post(path, headers=sent).status_code == status
        assert httpx.get(f"{server.url}/health/ready").status_code == 200
