"""Everything that the chart makes is valid, safe, and the same with Helm and without."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import foretell
from foretell.app.batching.choices import BatchSettings
from foretell.app.caching.choices import CacheSettings
from foretell.app.settings import Readable, Settings
from foretell.deploy.charting import FOLDER
from tests.deploy.daemons import RULES, command
from tests.deploy.helm import CHART, ROOT, helm, template
from tests.deploy.objects import FILES, Object, objects, of_kind, pods, rendered

# The oldest one that the chart takes, one between, and the newest one that can be validated.
VERSIONS = ("1.30", "1.34", "1.37")
CRDS = {path.stem: path for path in sorted(Path(__file__).with_name("crds").glob("*.json"))}
EXAMPLE = ROOT / "examples" / "kubernetes" / "inferenceservice.yaml"
IMAGE = {"image": {"repository": "churn", "tag": "1.0.0"}}
every_file = pytest.mark.parametrize("stem", FILES)


def key(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def closed(schema: Any) -> Any:
    """A schema of a CustomResourceDefinition as the API server takes it: nothing besides it."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(inner) for name, inner in schema.items()}
    if isinstance(made.get("pattern"), str):  # Go has this flag anywhere
        made["pattern"] = re.sub(r"^\^\(\?i\)", "(?i)^", made["pattern"])
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    is_open = made.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(made.get("properties"), dict) and "type" in made and not is_open:
        made.setdefault("additionalProperties", False)
    return made


def named(stem: str, kind: str, name: str) -> Object:
    (one,) = (each for each in objects(stem) if key(each) == (kind, name))
    return one


def validate_custom(each: Object) -> None:
    schema = closed(json.loads(CRDS[each["kind"]].read_text(encoding="utf-8")))
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(each, schema)


@pytest.mark.slow
@every_file
class TestWithHelm:
    def test_lint_finds_nothing(self, stem: str) -> None:
        assert "0 chart(s) failed" in helm("lint", CHART, "--strict", "-f", FILES[stem])

    def test_the_objects_are_the_same(self, stem: str) -> None:
        with_helm = template("churn", CHART, "-f", FILES[stem])
        assert sorted(with_helm, key=key) == sorted(objects(stem), key=key)


@pytest.mark.slow
@every_file
@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_is_valid(stem: str, version: str) -> None:
    for each in objects(stem):
        if each["kind"] in CRDS:
            validate_custom(each)
        else:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.slow
def test_a_wrong_object_is_found() -> None:
    """The validators themselves: a key that no schema has."""
    for each in objects("everything"):
        wrong = each | {"spec": each.get("spec", {}) | {"replicaz": 1}}
        if each["kind"] in CRDS:
            with pytest.raises(jsonschema.ValidationError, match="replicaz"):
                validate_custom(wrong)
        elif "spec" in each:
            with pytest.raises(kubernetes_validate.ValidationError, match="replicaz"):
                kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.slow
def test_every_kind_is_rendered_by_some_values() -> None:
    found = {each["kind"] for stem in FILES for each in objects(stem)}
    assert found == {
        *("Deployment", "Service", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim"),
        *("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "CronJob"),
        *("ServiceMonitor", "PrometheusRule", "HTTPRoute", "GRPCRoute", "ServingRuntime"),
        *("ScaledObject", "PodMonitor"),
    }


def test_the_example_of_an_inference_service_is_valid() -> None:
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    validate_custom(example)
    formats = of_kind("ServingRuntime", objects("jobs"))["spec"]["supportedModelFormats"]
    model = example["spec"]["predictor"]["model"]
    assert model["modelFormat"]["name"] in [each["name"] for each in formats]


@every_file
def test_each_pod_is_restricted(stem: str) -> None:
    """Kubernetes' pod security standard of that name, and a root that cannot be written."""
    for pod in pods(objects(stem)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for volume in spec["volumes"]:
            (kind,) = set(volume) - {"name"}
            assert kind in {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            check_container(container)


def check_container(container: Object) -> None:
    secured = container["securityContext"]
    assert secured["allowPrivilegeEscalation"] is False
    assert secured["readOnlyRootFilesystem"] is True
    assert secured["runAsNonRoot"] is True
    assert secured["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in secured
    assert not any("hostPort" in port for port in container.get("ports", []))
    resources = container["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert "memory" in resources["limits"]
    assert not container["image"].endswith(":latest")


def test_the_runtime_of_kserve_is_restricted_too() -> None:
    (container,) = of_kind("ServingRuntime", objects("jobs"))["spec"]["containers"]
    check_container(container)
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.slow
def test_the_rules_are_those_of_prometheus(tmp_path: Path) -> None:
    spec = of_kind("PrometheusRule", objects("everything"))["spec"]
    assert spec == yaml.safe_load(RULES.read_text(encoding="utf-8"))
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    subprocess.run([command("promtool"), "check", "rules", path], check=True, capture_output=True)


def test_what_one_writes_by_hand_comes_out_of_values() -> None:
    found = objects("claim")
    deployment = of_kind("Deployment", found)
    assert deployment["metadata"]["name"] == "ml-model-api"
    assert "replicas" not in deployment["spec"]  # the autoscaler's
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "http", "containerPort": 8000, "protocol": "TCP"} in container["ports"]
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"cpu": "500m", "memory": "1Gi"},
    }
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == "model-pvc"
    service = of_kind("Service", found)
    assert service["metadata"]["name"] == "ml-model-service"
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["ports"][0]["port"] == 80
    scaler = of_kind("HorizontalPodAutoscaler", found)["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 10)
    assert scaler["scaleTargetRef"]["name"] == "ml-model-api"
    (metric,) = scaler["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    fixed = rendered(IMAGE, {"autoscaling": {"enabled": False}, "server": {"replicas": 3}})
    assert of_kind("Deployment", fixed)["spec"]["replicas"] == 3


def test_a_pod_is_given_the_time_that_it_takes_to_leave(tmp_path: Path) -> None:
    drain = {"settleSeconds": 7, "graceSeconds": 11, "timeoutSeconds": 13}
    found = rendered(IMAGE, {"drain": drain})
    spec = of_kind("Deployment", found)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == 7
    assert spec["terminationGracePeriodSeconds"] > 7 + 11 + 13
    read = settings_of(of_kind("ConfigMap", found), tmp_path)
    assert (read.drain_grace_s, read.shutdown_timeout_s) == (11, 13)


def settings_of(config: Object, folder: Path, kind: type[Readable] = Settings) -> Any:
    """The settings that a server or a job reads from its ConfigMap."""
    path = folder / "foretell.toml"
    path.write_text(config["data"]["foretell.toml"], encoding="utf-8")
    return kind.read(config=path, environ={})


def test_settings_reach_the_server_as_they_are(tmp_path: Path) -> None:
    read = settings_of(of_kind("ConfigMap", objects("claim")), tmp_path)
    assert read.default_model == "churn"
    assert read.max_body_bytes == 134217728
    assert read.latency_buckets_s == (0.0001, 0.005, 1.0, 2.0)
    assert read.metrics_bind == "0.0.0.0:9090"
    assert read.caches == {"churn": CacheSettings(store="memory", max_bytes=134217728, ttl_s=0.5)}


def test_who_may_ask_is_what_a_secret_and_a_config_map_say(tmp_path: Path) -> None:
    """A server that is not told of the file it was given would let in everybody."""
    found = objects("store")
    read = settings_of(of_kind("ConfigMap", found), tmp_path)
    spec = of_kind("Deployment", found)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    at = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in spec["volumes"]}
    keys, jwks = Path(str(read.keys_file)), Path(str(read.jwt_jwks))
    assert volumes[at[str(keys.parent)]]["secret"]["secretName"] == "churn-keys"
    assert volumes[at[str(jwks.parent)]]["configMap"]["name"] == "issuer"
    assert (keys.name, jwks.name) == ("keys.toml", "jwks.json")


def test_the_issuers_keys_may_be_at_its_own_address(tmp_path: Path) -> None:
    settings = {"jwt_issuer": "https://id.example", "jwt_audience": "churn"}
    told = {"access": {"jwks": "https://id.example/jwks.json"}, "settings": settings}
    found = rendered(IMAGE, told)
    assert settings_of(of_kind("ConfigMap", found), tmp_path).jwt_jwks == told["access"]["jwks"]
    volumes = of_kind("Deployment", found)["spec"]["template"]["spec"]["volumes"]
    assert [one["name"] for one in volumes] == ["config", "tmp"]


def test_settings_reach_a_job_as_they_are(tmp_path: Path) -> None:
    read = settings_of(named("everything", "ConfigMap", "churn-batch"), tmp_path, BatchSettings)
    assert (read.threads, read.on_bad_row) == (2, "quarantine")


@pytest.mark.slow
def test_a_setting_that_changes_replaces_the_pods() -> None:
    def template_of(*layers: dict[str, Any]) -> Object:
        made: Object = of_kind("Deployment", rendered(IMAGE, *layers))["spec"]["template"]
        return made

    assert template_of() == template_of()
    assert template_of({"settings": {"max_rows": 5}}) != template_of()
    assert template_of({"models": {"packages": {"churn/1": "sha256:1"}}}) != template_of()
    # What concerns others replaces none.
    assert template_of({"autoscaling": {"cpu": 50}, "service": {"httpPort": 81}}) == template_of()


def test_a_worker_has_a_core_and_memory_is_there_when_it_is_needed() -> None:
    (container,) = named("everything", "Deployment", "churn")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "1.5Gi"},
        "limits": {"memory": "1.5Gi"},
    }


@every_file
def test_what_selects_pods_finds_those_it_means(stem: str) -> None:
    found = objects(stem)
    labels = [pod["metadata"]["labels"] for pod in pods(found)]
    for each in found:
        spec = each.get("spec", {})
        selector = {
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "Service": lambda spec: spec["selector"],
        }.get(each["kind"])
        if selector is not None:
            chosen = [one for one in labels if selector(spec).items() <= one.items()]
            assert len(chosen) == 1, key(each)


@pytest.mark.parametrize("stem", ["store", "everything"])
def test_the_monitor_finds_the_service_of_the_metrics_alone(stem: str) -> None:
    found = objects(stem)
    wanted = of_kind("ServiceMonitor", found)["spec"]["selector"]["matchLabels"]
    services = [each for each in found if each["kind"] == "Service"]
    chosen = [s for s in services if wanted.items() <= s["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in chosen] == ["churn-metrics"]
    open_to_all = next(each for each in services if each not in chosen)
    assert "metrics" not in [port["name"] for port in open_to_all["spec"]["ports"]]


def test_the_server_may_ask_nobody_but_the_store_that_has_the_models() -> None:
    closed_off = of_kind("NetworkPolicy", objects("baked"))["spec"]
    assert closed_off["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in closed_off
    opened = of_kind("NetworkPolicy", objects("store"))["spec"]["egress"]
    assert [port["port"] for port in opened[0]["ports"]] == [53, 53, 443]


def test_a_stream_is_a_deployment_that_lag_scales() -> None:
    by_hand = of_kind("Deployment", objects("jobs"))["spec"]
    (container,) = by_hand["template"]["spec"]["containers"]
    assert container["args"] == [
        *("stream", "/models/churn/1.0.0"),
        *("--from", "kafka://kafka.example.com:9092/readings?group=churn"),
        *("--to", "kafka://scorer:$(KAFKA_PASSWORD)@kafka.example.com:9092/scores"),
        *("--dead-letters", "stderr", "--metrics-bind", "0.0.0.0:9090"),
    ]
    assert container["envFrom"] == [{"secretRef": {"name": "store-credentials"}}]
    assert by_hand["replicas"] == 3
    scaled = named("everything", "Deployment", "churn-stream")
    assert "replicas" not in scaled["spec"], "each rendering would undo what KEDA did"
    target = of_kind("ScaledObject", objects("everything"))["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == key(scaled)


@pytest.mark.parametrize("kind", [Settings, BatchSettings])
def test_the_schema_has_the_settings_that_there_are(kind: type[Readable]) -> None:
    """Helm refuses a wrong setting as `foretell serve` would."""
    schema = json.loads((FOLDER / "values.schema.json").read_text(encoding="utf-8"))["properties"]
    known = schema["settings"] if kind is Settings else schema["batch"]["properties"]["settings"]
    # The chart knows these itself.
    own = {"bind", "workers", "drain_grace_s", "shutdown_timeout_s", "certfile", "keyfile"}
    own |= {"client_cafile", "keys_file", "jwt_jwks"}
    own |= {"cache_dir", "metrics", "metrics_bind", "models"}
    fields = kind.model_json_schema()["properties"]
    expected = {
        name: {word: rule for word, rule in field.items() if word not in {"title", "default"}}
        for name, field in fields.items()
        if kind is BatchSettings or name not in own
    }
    assert known["properties"] == expected


def test_the_schema_has_the_choices_of_a_cache_that_there_are() -> None:
    schema = json.loads((FOLDER / "values.schema.json").read_text(encoding="utf-8"))["properties"]
    known = schema["caches"]["additionalProperties"]
    told = CacheSettings.model_json_schema()
    assert known["required"] == told["required"]
    assert known["properties"] == {
        name: {word: rule for word, rule in field.items() if word not in {"title", "default"}}
        for name, field in told["properties"].items()
    }


def test_the_chart_has_the_version_of_foretell() -> None:
    chart = yaml.safe_load((FOLDER / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == foretell.__version__
