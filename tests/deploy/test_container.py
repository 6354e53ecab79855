"""The image of a compiled package, really built, and run as a careful platform runs it."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

import foretell
from tests import models
from tests.deploy.objects import of_kind, rendered
from tests.deploy.podman import BASE_IMAGE, Podman

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("podman")]

MIB = 2**20
# What Kubernetes' "restricted" profile and a read-only root come to. Nothing at all can be written.
HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges", "--memory", "256m", "--pids-limit", "100"),
)
PORTS = ("--publish", "127.0.0.1::8000", "--publish", "127.0.0.1::50051")
LOOK = """
import importlib.util as u, json, os, shutil
bom = json.load(open("/opt/foretell/sbom.cdx.json"))
print(json.dumps({
    "modules": [n for n in ("sklearn", "scipy", "pandas", "pip", "onnx") if u.find_spec(n)],
    "commands": [n for n in ("gcc", "cc", "make", "pip") if shutil.which(n)],
    "user": [os.getuid(), os.getgid()],
    "writable": [p for p in ("/", "/app", "/models", "/opt/foretell") if os.access(p, os.W_OK)],
    "bom": {c["name"].lower().replace("_", "-"): c["version"] for c in bom["components"]},
    "format": bom["bomFormat"],
}))
"""


def test_it_serves_rest_and_grpc_where_nothing_can_be_written(podman: Podman, image: str) -> None:
    began = time.monotonic()
    with podman.running(image, *HARDENED, *PORTS) as name:
        url = f"http://127.0.0.1:{podman.port(name, 8000)}"
        podman.until_it_listens(name)
        assert httpx.get(f"{url}/health/ready", timeout=30).status_code == 200
        assert time.monotonic() - began < 10  # 1.6 s measured
        rows, _ = models.numbers()
        asked = rows.iloc[::10]
        with foretell.Client(url) as rest:
            expected = rest.predict("flowers", asked)
        with foretell.Client(f"grpc://127.0.0.1:{podman.port(name, 50051)}") as grpc:
            found = grpc.predict("flowers", asked)
        assert list(found.predictions) == list(expected.predictions)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        podman("healthcheck", "run", name)
        podman("stop", "--time", "20", name)
        code = podman("inspect", "--format", "{{.State.ExitCode}}", name)
        assert code == "0", podman.logs(name)  # SIGTERM reached the server, which ended well


def test_it_holds_the_server_and_nothing_to_build_with(
    podman: Podman, image: str, told: dict[str, Any]
) -> None:
    python = ("--entrypoint", "/opt/foretell/bin/python")
    seen = json.loads(podman("run", "--rm", *HARDENED, *python, image, "-c", LOOK).splitlines()[-1])
    assert seen["modules"] == []
    assert seen["commands"] == []
    assert seen["user"] == [10001, 10001]
    assert seen["writable"] == []
    assert seen["format"] == "CycloneDX"
    own = {"foretell": foretell.__version__}
    assert seen["bom"] == told["requirements"] | own  # as locked, and nothing besides


def test_it_is_small_and_says_what_it_serves(
    podman: Podman, image: str, repository: Path, told: dict[str, Any]
) -> None:
    assert podman.size(image) - podman.size(BASE_IMAGE) < 350 * MIB
    labels = json.loads(podman("image", "inspect", "--format", "{{json .Labels}}", image))
    assert labels["foretell.package.digest"] == told["packages"][0]["digest"]
    assert labels["org.opencontainers.image.title"] == "flowers"
    assert labels["org.opencontainers.image.base.name"] == BASE_IMAGE


def test_a_server_without_models_ends_and_says_so(podman: Podman, image: str) -> None:
    with podman.running(image, *HARDENED, command=("serve", "/nowhere")) as name:
        assert podman("wait", name) == "1"
        assert "there is no /nowhere" in podman.logs(name)


def test_settings_come_from_the_platform(podman: Podman, image: str) -> None:
    """A mounted foretell.toml, variables, and other commands than serve."""
    done = podman("run", "--rm", *HARDENED, image, "inspect", "/models", "--json")
    assert json.loads(done)[0]["name"] == "flowers"
    options = ("--env", "FORETELL_WORKERS=nine")
    refused = podman("run", *HARDENED, *options, "--name", "wrong", image, code=2)
    assert refused == ""
    assert "workers is 'nine' (from the environment)" in podman.logs("wrong")


def test_its_deployment_comes_up_and_answers(podman: Podman, image: str, tmp_path: Path) -> None:
    """What `foretell k8s render` writes, as Kubernetes would run a pod of it, by podman."""
    repository, _, tag = image.rpartition(":")
    found = rendered(
        {"image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}},
        {"settings": {"max_rows": 20}, "drain": {"graceSeconds": 1}},
        name="flowers",
    )
    deployment, config = of_kind("Deployment", found), of_kind("ConfigMap", found)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each for each in container["ports"]}
    for each in ports.values():  # podman has no Service
        with socket.create_server(("127.0.0.1", 0)) as free:
            each |= {"hostIP": "127.0.0.1", "hostPort": free.getsockname()[1]}
    path = tmp_path / "flowers.yaml"
    path.write_text(yaml.safe_dump_all([config, deployment]), encoding="utf-8")
    podman("play", "kube", path)
    try:
        name = podman("ps", "--format", "{{.Names}}", "--filter", "name=-api").strip()
        podman.until_it_listens(name)
        url = f"http://127.0.0.1:{ports['http']['hostPort']}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = httpx.get(url + container[probe]["httpGet"]["path"], timeout=30)
            assert asked.status_code == 200, probe
        metrics = f"http://127.0.0.1:{ports['metrics']['hostPort']}/metrics"
        assert "foretell_build_info" in httpx.get(metrics, timeout=30).text
        assert httpx.get(f"{url}/metrics", timeout=30).status_code == 404
        rows, _ = models.numbers()
        with foretell.Client(url) as rest:
            expected = rest.predict("flowers", rows.iloc[:20])
            with pytest.raises(foretell.ForetellError, match="20"):
                rest.predict("flowers", rows.iloc[:21])  # the ConfigMap is read
        with foretell.Client(f"grpc://127.0.0.1:{ports['grpc']['hostPort']}") as grpc:
            answer = grpc.predict("flowers", rows.iloc[:20])
        np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
        podman("stop", "--time", "40", name)
        assert podman("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        podman("play", "kube", "--down", path)
