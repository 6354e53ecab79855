"""What one chooses of a gateway: all that is wrong is said at once, and Envoy takes the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from foretell.app.gateway import envoy, reading, running
from foretell.deploy.gateway.clusters import clusters, endpoints
from foretell.deploy.gateway.files import files, whole
from foretell.deploy.gateway.messages import Contents, socket_address
from foretell.deploy.gateway.plan import Gateway, Group, Strategy, Upstream
from foretell.deploy.gateway.routes import routes
from foretell.errors import BadSettings
from tests.deploy.podman import ROOT
from tests.gateways import toml

HERE, THERE = Upstream("127.0.0.1", 8001), Upstream("127.0.0.1", 8002)
KEY = "5d" * 16
ADMIN = socket_address("127.0.0.1", 9901)


def read(folder: Path, **told: Any) -> Gateway:
    config = folder / "gateway.toml"
    config.write_text(toml(told))
    return reading.read(config, {})


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        read(
            tmp_path,
            upstreams=["http://127.0.0.1:8001", "127.0.0.1:8002"],
            strateg="round_robin",
            timeout_s="long",
            rate_limit={"requests_per_s": 0, "bursts": 3},
            groups={"others": {"upstreams": ["http://127.0.0.1:8003"], "model": ["other"]}},
        )
    said = caught.value.message
    for words in (
        "upstreams: '127.0.0.1:8002' is no server",
        "there is no setting 'strateg'; did you mean 'strategy'?",
        'timeout_s is "long", but',
        "rate_limit: requests_per_s is 0, but must be from 1 to 1,000,000,000",
        "there is no setting 'rate_limit.bursts'; did you mean 'burst'?",
        "there is no setting 'groups.others.model'; did you mean 'models'?",
    ):
        assert words in said, (words, said)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "is empty"),
        ({"access_log": True}, "name at least one"),
        ({"upstreams": ["ftp://a:21"]}, "is no server"),
        ({"upstreams": ["http://user:word@a:80"]}, "is no server"),
        ({"upstreams": ["http://a b:80"]}, "is no server"),
        ({"upstreams": ["http://a:80#x"]}, "is no server"),
        ({"upstreams": ["http://[::1]:80", "http://[0:0:0:0:0:0:0:1]:80"]}, "named twice"),
        ({"upstreams": ["http://a:80"], "drain_grace_s": float("inf")}, "from 0 to 3,600"),
        ({"upstreams": ["http://a:80"], "timeout_s": float("nan")}, "timeout_s is nan"),
        ({"upstreams": ["http://a:80"], "max_connections": 5 * 10**9}, "max_connections is"),
        ({"upstreams": ["http://a:80"], "api_keys_file": "a\\u0000b"}, "cannot be read"),
        ({"upstreams": ["http://127.0.0.1:8001=3"]}, "only the strategy weighted"),
        ({"upstreams": ["http://127.0.0.1:8001"], "strategy": "weighted"}, "needs =WEIGHT"),
        ({"upstreams": ["http://127.0.0.1:8001=0"]}, "from 1 to 128"),
        ({"upstreams": ["http://127.0.0.1:8001"] * 2}, "named twice"),
        ({"upstreams": ["https://127.0.0.1:8001"]}, "give upstream_cafile"),
        ({"upstreams": ["http://a:1", "https://b:1"]}, "put them into two groups"),
        ({"upstreams": ["http://a:1"], "bind": "localhost:80"}, "an address, not a name"),
        ({"upstreams": ["http://a:1"], "strategy": "random"}, "strategy is"),
        ({"upstreams": ["http://a:1"], "canary": {"upstreams": ["http://b:1"]}}, "nobody asks it"),
        ({"groups": {"one": {"upstreams": ["http://a:1"]}}}, "nothing goes to the group one"),
        (
            {"upstreams": ["http://a:1"], "jwt": {"issuer": "i", "jwks_file": "f"}},
            "give issuer and audiences",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, told: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadSettings, match=words):
        reading.read_contents(read(tmp_path, **told))


def test_what_the_docs_show_can_be_used(tmp_path: Path) -> None:
    docs = (ROOT / "docs" / "gateway.md").read_text()
    first, keys, tokens = re.findall(r"```toml\n(.*?)```", docs, re.DOTALL)
    for text in (first, keys + first, first + tokens):
        (tmp_path / "gateway.toml").write_text(text)
        assert reading.read(tmp_path / "gateway.toml", {}).bind == "0.0.0.0:8080"
    known = {field.name for field in fields(Gateway)}
    named = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| [^|]+ \| [^|]*\|$", docs, re.MULTILINE)
    told = {name for line in named for name in re.findall(r"[a-z_]+", line)}
    assert (
        {"upstreams", "drain_grace_s"} <= told - {strategy.value for strategy in Strategy} <= known
    )
    assert all(f"| `{strategy}` |" in docs for strategy in Strategy)


def test_two_groups_cannot_claim_the_same() -> None:
    groups = {name: Group((HERE,), models=("churn",)) for name in ("one", "two")}
    with pytest.raises(ValueError, match="'churn' goes to two groups, one and two"):
        Gateway(groups=groups)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shop", "line 1 of .* is not NAME KEY"),
        ("shop short", "too short to be safe"),
        (f"shop {KEY}\nbank {KEY}", "line 2 of .* was there before"),
        ("# nobody yet\n", "has no key"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(BadSettings, match=words):
        reading.read_keys(str(path))


@pytest.mark.parametrize("text", [f"x = {'[' * 3000}", f"x = {'1' * 5001}", "x = "])
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(BadSettings, match="is not TOML"):
        reading.read(path, {})


def test_models_go_before_paths_and_long_paths_before_short_ones() -> None:
    groups = {
        "all": Group((HERE,), prefixes=("/",)),
        "one": Group((HERE,), prefixes=("/v1",)),
        "fraud": Group((THERE,), models=("fraud",)),
    }
    found = routes(Gateway(groups=groups))["virtual_hosts"][0]["routes"]
    order = [route["route"]["cluster"] for route in found if "route" in route]
    assert order == ["fraud"] * 4 + ["one", "all"]


def test_what_a_killed_gateway_left_is_removed(tmp_path: Path, monkeypatch: Any) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    for number in (gone.pid, os.getpid()):
        (tmp_path / f"{running.PREFIX}{number}-x").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running._sweep()
    assert [path.name for path in tmp_path.iterdir()] == [f"{running.PREFIX}{os.getpid()}-x"]


def test_new_servers_come_beside_the_old_ones_first() -> None:
    """Envoy asks a new one whether it is well; without the others, nobody would answer then."""
    found = endpoints(Gateway((THERE,)), Gateway((HERE,)))["default"]
    told = [
        one["endpoint"]["address"]["socket_address"]
        for one in found["endpoints"][0]["lb_endpoints"]
    ]
    assert [place["port_value"] for place in told] == [8001, 8002]


@pytest.mark.parametrize(("upstream", "at_once"), [(HERE, True), (Upstream("server", 8080), False)])
def test_a_well_server_that_no_look_up_tells_is_kept(upstream: Upstream, at_once: bool) -> None:
    """A name server that begins anew knows nobody for a moment; then there would be no server."""
    (cluster,) = clusters(Gateway((upstream,)), "/etc/envoy", Contents({}))
    assert cluster["ignore_health_on_host_removal"] is at_once


def test_keys_are_read_by_nobody_else(tmp_path: Path) -> None:
    contents = Contents({"shop": KEY})
    gateway = Gateway((HERE,), api_keys_file="keys")
    texts = files(gateway, "/etc/x", admin=ADMIN, contents=contents)
    running.write(texts, tmp_path)
    assert [name for name, text in texts.items() if KEY in text] == ["listeners.json"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_envoy_judges_all_of_it(tmp_path: Path) -> None:
    """A file that names others would be taken whatever stood in them."""
    text = whole(Gateway((HERE,)), admin=ADMIN, contents=Contents({}))
    for kind in ("clusters", "listeners"):
        told = json.loads(text)
        told["static_resources"][kind][-1]["no_such_field"] = 1
        path = tmp_path / "envoy.json"
        path.write_text(json.dumps(told))
        with pytest.raises(BadSettings, match="no_such_field"):
            envoy.validate(envoy.program(), path)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_envoy_takes_every_file(tmp_path: Path, strategy: Strategy) -> None:
    """Everything at once, for each strategy; a deprecated field would be refused, too."""
    keys = tmp_path / "keys"
    keys.write_text(f"shop {KEY}\n")
    weight = "=2" if strategy is Strategy.WEIGHTED else ""
    gateway = read(
        tmp_path,
        upstreams=[f"http://127.0.0.1:8001{weight}", f"http://[::1]:8002{weight}"],
        strategy=str(strategy),
        metrics_bind="127.0.0.1:9102",
        timeout_s=2.5,
        api_keys_file="keys",
        access_log=True,
        rate_limit={"requests_per_s": 10},
        canary={"upstreams": ["http://servers.test:80"], "percent": 5, "header": "x-canary"},
        groups={"others": {"models": ["a.b"], "prefixes": ["/"], "upstreams": ["http://c:1"]}},
    )
    path = tmp_path / "envoy.json"
    path.write_text(running.rendered(gateway))
    words = [envoy.program(), "--mode", "validate", "-c", str(path), "--log-level", "warning"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert not re.search("[Dd]eprecated", done.stderr), done.stderr
    contents = reading.read_contents(gateway)
    texts = files(gateway, str(tmp_path), admin=ADMIN, contents=contents)
    assert json.loads(texts["clusters.json"])["resources"][0]["name"] == "canary"
    assert set(texts) == {
        "endpoints-default.json",
        "clusters.json",
        "routes.json",
        "listeners.json",
        "envoy.json",
    }
