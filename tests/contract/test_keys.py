"""Who may ask what: every route and every method has a decision, and a real server keeps to it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from foretell.app.settings import Settings
from foretell.app.wiring import create_app
from foretell.client.clients import Client
from foretell.codecs import messages
from foretell.errors import BadSettings, Forbidden, Unauthenticated
from foretell.transports.asgi.access.gate import METHODS, decided
from foretell.transports.asgi.access.grants import Need, keys_of
from foretell.transports.asgi.access.keyring import Keyring
from foretell.transports.rest.app import RestApp
from tests.servers import Server, running

pytestmark = pytest.mark.slow

START_S = 30.0
SERVICES = (
    "prediction.PredictionService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
ROW = {"age": 35, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}


def new_key(file: Path, name: str, *options: str) -> str:
    """What `foretell key new` shows."""
    command = [sys.executable, "-m", "foretell", "key", "new", name, "--file", str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.toml"


@pytest.fixture(scope="module")
def keys(file: Path) -> dict[str, str]:
    return {
        "all": new_key(file, "all"),
        "plans": new_key(file, "plans", "--model", "plans"),
        "admin": new_key(file, "admin", "--admin"),
    }


@pytest.fixture(scope="module")
def guarded(repository: Path, file: Path, keys: dict[str, str]) -> Iterator[Server]:
    assert keys
    arguments = ["--default-model", "churn", "--model-control", "--keys-file", str(file)]
    with running(repository, *arguments) as server:
        yield server


@pytest.fixture(scope="module", params=["h2corn", pytest.param("uvicorn", marks=pytest.mark.slow)])
def rest(
    request: pytest.FixtureRequest, guarded: Server, repository: Path, file: Path
) -> Iterator[Server]:
    """The same under each server of REST."""
    if request.param == "h2corn":
        yield guarded
        return
    arguments = ["--default-model", "churn", "--model-control", "--keys-file", str(file)]
    with running(repository, *arguments, "--server", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def app(repository: Path, file: Path, keys: dict[str, str]) -> RestApp:
    assert keys
    return create_app(repository, settings=Settings(keys_file=file, default_model="churn"))


def routes_of(app: RestApp) -> Iterator[tuple[str, str]]:
    """Every method and path of the application, with names of a model where some are due."""
    for path in app._table:
        yield "POST", path
    found: list[Any] = []
    for route in app.routes:
        included = getattr(route, "original_router", None)
        found += [route] if included is None else included.routes
    for route in found:
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/swagger-ui.css"
        elif isinstance(route, APIRoute | Route):
            path = route.path.replace("{name}", "churn").replace("{version}", "1.0.0")
            for method in route.methods or ():
                yield method, path.replace("{rest:path}", "x")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_every_route_has_a_decision(app: RestApp) -> None:
    found = list(routes_of(app))
    assert len(found) > 60
    assert [path for _, path in found if decided(path) is None] == []


def test_every_method_has_a_decision(app: RestApp) -> None:
    real = {path for door in app._beside for path in door.table}
    assert real == set(METHODS)


def test_without_a_key_only_what_is_open_answers(rest: Server, app: RestApp) -> None:
    with httpx.Client(base_url=rest.url) as client:
        for method, path in routes_of(app):
            told = client.request(method, path)
            need, _ = decided(path) or (None, None)
            if need is Need.OPEN:
                assert told.status_code != 401, path
            else:
                assert told.status_code == 401, path
                assert told.headers["www-authenticate"] == "Bearer"
                assert method == "HEAD" or told.json()["code"] == "unauthenticated"


def test_a_key_for_another_model_is_forbidden_wherever_a_model_is_named(
    rest: Server, app: RestApp, keys: dict[str, str]
) -> None:
    with httpx.Client(base_url=rest.url, headers=bearer(keys["plans"])) as client:
        asked = 0
        for method, path in routes_of(app):
            need, model = decided(path) or (None, None)
            if need in (Need.MODEL, Need.EVERY_MODEL, Need.ADMIN) and model != "plans":
                assert client.request(method, path).status_code == 403, path
                asked += 1
        assert asked > 30
        assert client.get("/models/plans").status_code == 200


def test_control_needs_an_admin_key(rest: Server, keys: dict[str, str]) -> None:
    path = "/v2/repository/models/churn/load"
    for name, status in (("all", 403), ("plans", 403), ("admin", 200)):
        told = httpx.post(f"{rest.url}{path}", headers={"x-api-key": keys[name]})
        assert told.status_code == status, name


@pytest.mark.parametrize(
    "sent",
    [
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer")],
        [("x-api-key", "wrong")],
        [("x-api-key", "x" * 8000)],
        [("x-api-key", "one"), ("x-api-key", "two")],
    ],
)
def test_what_is_no_key_is_refused(rest: Server, sent: list[tuple[str, str]]) -> None:
    told = httpx.post(f"{rest.url}/predict", json=ROW, headers=sent)
    assert told.status_code == 401, told.text


@pytest.mark.parametrize("path", ["/models/churn%0a", "/v2/models/churn/config%0a", "/nothing"])
def test_odd_paths_open_nothing(rest: Server, keys: dict[str, str], path: str) -> None:
    assert httpx.get(f"{rest.url}{path}").status_code == 401
    told = httpx.get(f"{rest.url}{path}", headers=bearer(keys["plans"]))
    assert told.status_code in (403, 404)


def call(channel: grpc.Channel, path: str, request: Any, key: str | None) -> Any:
    """The status of a call, whatever its kind, whose first answer is enough."""
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    made: Any = cast("Any", channel).stream_stream(path)(
        iter([request]), metadata=metadata, timeout=START_S
    )
    try:
        next(made)
    except StopIteration:
        return made.code()
    except grpc.RpcError as error:
        return error.code()
    made.cancel()
    return grpc.StatusCode.OK


def asking(path: str, model: str) -> bytes:
    """The smallest request of a method that names `model`, if it names one."""
    service, _, name = path[1:].partition("/")
    method = messages.service(service).methods_by_name[name]
    request = messages.message(method.input_type.full_name)()
    for field in ("model_name", "name"):
        if hasattr(request, field):
            setattr(request, field, model)
    written: bytes = request.SerializeToString()
    return written


def test_every_method_asks_for_the_key_it_needs(guarded: Server, keys: dict[str, str]) -> None:
    code = grpc.StatusCode
    with grpc.insecure_channel(urlsplit(guarded.url).netloc) as channel:
        for path, need in METHODS.items():
            request = asking(path, "churn")
            without = call(channel, path, request, None)
            other = call(channel, path, request, keys["plans"])
            if need is Need.OPEN:
                assert without is code.OK, path
                continue
            assert without is code.UNAUTHENTICATED, path
            if path.endswith("/ModelStreamInfer"):
                continue  # what fails is told within the stream
            refused = need in (Need.MODEL, Need.ADMIN)
            assert (other is code.PERMISSION_DENIED) == refused, path


def test_a_stream_gives_nothing_of_a_model_that_the_key_is_not_for(
    guarded: Server, keys: dict[str, str]
) -> None:
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    answer = messages.message("inference.ModelStreamInferResponse")
    with grpc.insecure_channel(urlsplit(guarded.url).netloc) as channel:
        metadata = (("x-api-key", keys["plans"]),)
        made = cast("Any", channel).stream_stream(path)(
            iter([asking(path, "churn")]), metadata=metadata, timeout=START_S
        )
        told = answer.FromString(next(made))
    assert "is not for model 'churn'" in told.error_message
    assert not told.infer_response.outputs


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_the_client_sends_its_key(guarded: Server, keys: dict[str, str], scheme: str) -> None:
    place = f"{scheme}://{urlsplit(guarded.url).netloc}"
    with Client(place, api_key=keys["all"]) as client:
        assert client.predict("churn", ROW)
    with Client(place, api_key=keys["plans"]) as client, pytest.raises(Forbidden):
        client.predict("churn", ROW)
    with Client(place) as client, pytest.raises(Unauthenticated):
        client.predict("churn", ROW)


def test_keys_come_and_go_without_a_restart(rest: Server, file: Path, keys: dict[str, str]) -> None:
    assert keys

    def until(key: str, status: int) -> None:
        end = time.monotonic() + START_S
        while httpx.get(f"{rest.url}/models", headers=bearer(key)).status_code != status:
            assert time.monotonic() < end
            time.sleep(0.05)

    before = file.read_text()
    added = new_key(file, "added")
    until(added, 200)
    file.write_text(before)
    until(added, 401)


def test_a_broken_file_leaves_the_former_keys(tmp_path: Path) -> None:
    now = 0.0
    file = tmp_path / "keys.toml"
    key = new_key(file, "one").encode()
    ring = Keyring(file, clock=lambda: now)
    file.write_text("[keys")
    now = 2.0
    assert ring.grant_of(key).name == "one"
    file.write_text("")
    now = 4.0
    with pytest.raises(Unauthenticated):
        ring.grant_of(key)


def test_the_file_has_no_key_and_is_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    key = new_key(file, "one", "--model", "churn")
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"key": {}}, "a table \\[keys.NAME\\]"),
        ({"keys": {"a": {"sha256": "abc"}}}, "64 hexadecimal digits"),
        ({"keys": {"a": {"sha256": "0" * 64, "modles": []}}}, "must be a table of"),
        ({"keys": {"a": {"sha256": "0" * 64, "models": "churn"}}}, "a list of names"),
        ({"keys": {"a": {"sha256": "0" * 64, "admin": 1}}}, "true or false"),
        ({"keys": {"a": {"sha256": "0" * 64}, "b": {"sha256": "0" * 64}}}, "the same sha256"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(told: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        keys_of(told)
