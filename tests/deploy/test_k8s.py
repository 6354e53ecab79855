"""`foretell k8s`: what is chosen, what is refused and in which words, where it is written."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from foretell.deploy import charting, values
from foretell.deploy.templating import Templates
from foretell.errors import BadSettings
from foretell.packing import pack
from tests import models
from tests.deploy.helm import ROOT, template
from tests.deploy.objects import FILES, objects, of_kind, rendered

IMAGE = ("--set", "image.repository=churn", "--set", "image.tag=v1")


def foretell_k8s(*words: str | Path, code: int = 0) -> str:
    """What `foretell k8s …` prints; it must end with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "foretell", "k8s", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flowers")
    rows, kinds = models.numbers()
    model = LogisticRegression(max_iter=1000)
    models.trained(model, rows, kinds)
    return pack(
        [models.saved(model, folder / "flowers.pkl")],
        name="My_Flowers",
        version="1.0.0+a",
        sample=models.sampled(rows, folder / "flowers.csv"),
        repository=folder / "models",
        compile=False,
    )


@pytest.mark.slow
def test_a_target_names_the_release_and_the_image_and_has_a_digest(package: Path) -> None:
    found = [
        each for each in yaml.safe_load_all(foretell_k8s("render", package.parents[1])) if each
    ]
    deployment = of_kind("Deployment", found)
    assert deployment["metadata"]["name"] == "my-flowers"
    pod = deployment["spec"]["template"]
    assert pod["spec"]["containers"][0]["image"] == "my_flowers:1.0.0-a"  # as `foretell image`
    assert "My_Flowers/1.0.0+a" in pod["metadata"]["annotations"]["foretell/packages"]
    named = foretell_k8s("render", package, "--name", "other", *IMAGE)
    other = of_kind("Deployment", [each for each in yaml.safe_load_all(named) if each])
    assert other["metadata"]["name"] == "other"
    assert other["spec"]["template"]["spec"]["containers"][0]["image"] == "churn:v1"


@pytest.mark.slow
def test_files_and_flags_are_read_and_the_last_one_wins(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("autoscaling: {cpu: 50, maxReplicas: 4}\n")
    printed = foretell_k8s(
        *("render", "--name", "churn", "-f", FILES["everything"], "-f", tmp_path / "more.yaml"),
        *("--set", "autoscaling.maxReplicas=5", "--set", r"podAnnotations.example\.com/x=1e3"),
    )
    found = [each for each in yaml.safe_load_all(printed) if each]
    scaler = of_kind("HorizontalPodAutoscaler", found)["spec"]
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    assert scaler["maxReplicas"] == 5
    pods = [each for each in found if each["kind"] == "Deployment"]
    notes = pods[0]["spec"]["template"]["metadata"]["annotations"]
    assert notes["example.com/x"] == "1e3"
    assert notes["when"] == "2026-11-25"


@pytest.mark.slow
def test_a_folder_holds_what_was_rendered_last_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "k8s"
    said = foretell_k8s("render", "-f", FILES["everything"], "--name", "churn", "-o", folder)
    assert f"kubectl apply -f {folder}" in said
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())]
    assert [d for text in texts for d in yaml.safe_load_all(text) if d] == objects("everything")
    foretell_k8s("render", "-f", FILES["jobs"], "--name", "churn", "-o", folder, "--quiet")
    assert not (folder / "deployment.yaml").exists()
    (folder / "mine.yaml").write_text("kind: Secret\n")
    refused = foretell_k8s("render", "-f", FILES["jobs"], "-o", folder, code=2)
    assert "holds other things" in refused
    assert (folder / "mine.yaml").exists()
    assert (folder / "cronjob.yaml").exists()


@pytest.mark.slow
def test_values_begin_a_file_of_values(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(foretell_k8s("values"), encoding="utf-8")
    assert foretell_k8s("render", "-f", path, *IMAGE) == foretell_k8s("render", *IMAGE)


@pytest.mark.slow
def test_the_chart_that_is_written_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "chart"
    foretell_k8s("chart", "-o", folder)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    found = template("churn", folder, "-f", FILES["everything"])
    assert len(found) == len(objects("everything"))
    assert "is there already" in foretell_k8s("chart", "-o", folder, code=2)


@pytest.mark.slow
def test_the_wheel_has_the_chart(tmp_path: Path) -> None:
    words = ["pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run([sys.executable, "-m", *words], check=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("foretell-*.whl"))) as wheel:
        for path in charting.FOLDER.rglob("*"):
            if path.is_file():
                name = f"foretell/deploy/chart/{path.relative_to(charting.FOLDER)}"
                assert wheel.read(name) == path.read_bytes()


REFUSED = {
    "no image": ({"image": {"tag": "v1"}}, "image.repository is missing: name the image"),
    "no tag": ({"image": {"tag": ""}}, "image.tag is missing: name a tag, or image.digest"),
    "latest": ({"image": {"tag": "latest"}}, "must say which one: 'latest' is another one"),
    "number": ({"image": {"tag": 1.0}}, "image.tag is 1.0, but must be of type string; put it in"),
    "misspelt": (
        {"autoscaling": {"minReplica": 1}},
        "there is no value 'autoscaling.minReplica'; ",
    ),
    "misspelt setting": ({"settings": {"max_row": 1}}, "did you mean 'max_rows'?"),
    "the chart's own": ({"settings": {"bind": ["a:1"]}}, "there is no value 'settings.bind'"),
    "source": ({"models": {"source": "s3"}}, "must be one of image, claim, store"),
    "too few": ({"server": {"workers": 0}}, "server.workers is 0, but must be at least 1"),
    "no claim": ({"models": {"source": "claim"}}, "models.claim.name is missing"),
    "no store": ({"models": {"source": "store"}}, "models.store.url is missing"),
    "no issuer": ({"access": {"jwks": "keys"}}, "settings.jwt_issuer is missing: access.jwks has"),
    "no input": ({"batch": {"enabled": True}}, "batch.input is missing"),
    "no source": ({"stream": {"enabled": True, "to": "redis://a/b"}}, "stream.from is missing"),
    "no triggers": ({"stream": {"scaling": {"enabled": True}}}, "stream.scaling.triggers is empty"),
    "no hosts": (
        {"gateway": {"grpc": {"enabled": True, "parentRefs": [{"name": "a"}]}}},
        "gateway.grpc.hostnames is empty, but must name one at least",
    ),
    "memory": ({"resources": {"requests": {"memory": "1 GB"}}}, "resources.requests.memory is"),
    "taken away": ({"drain": None}, "drain may not be taken away"),
}


@pytest.mark.parametrize(("told", "words"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_value_is_refused_with_a_sentence(told: dict[str, Any], words: str) -> None:
    image = {"image": {"tag": "v1"} | ({} if "no image" in words else {"repository": "churn"})}
    if words.startswith("image.repository"):
        image = {}
    with pytest.raises(BadSettings) as refused:
        rendered(image, told)
    assert words in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--name", "Churn_1", *IMAGE), "'Churn_1' is no name for a release"),
        (("--set", "image.tag"), "write it as image.tag=1.0.0"),
        (("--set", "image={a"), "--set image={a is not YAML"),
        (("-f", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (("-f", str(FILES["baked"].parent)), "cannot be read"),
    ],
)
def test_a_wrong_flag_ends_with_2_and_a_sentence(words: tuple[str, ...], said: str) -> None:
    assert said in foretell_k8s("render", *words, code=2)


def test_a_package_that_was_altered_ends_with_1(package: Path) -> None:
    manifest = (package / "model.json").read_text(encoding="utf-8")
    (package / "model.json").write_text(manifest.replace('"sha256": "', '"sha256": "0'))
    try:
        assert "error:" in foretell_k8s("render", package, *IMAGE, code=1)
    finally:
        (package / "model.json").write_text(manifest)


def test_models_are_copied_from_a_store_as_they_lie_there(package: Path, tmp_path: Path) -> None:
    """The script of the init container, with a store that is a folder."""
    repository = package.parents[1]
    pod = of_kind("Deployment", objects("store"))["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    python, *flags, url, target = container["command"]
    assert (python, url, target) == ("python", "s3://lake/models", "/models")
    for name, given in (("a", f"file://{repository}"), ("b", f"file://{repository}/")):
        folder = tmp_path / name
        folder.mkdir()  # as the volume is
        subprocess.run([sys.executable, *flags, given, str(folder)], check=True, timeout=60)
        copied = {path.relative_to(folder) for path in folder.rglob("*")}
        assert copied == {path.relative_to(repository) for path in repository.rglob("*")}


def test_the_page_shows_values_that_there_are() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    (told,) = (block for block in blocks if "batch" in block)
    found = rendered({"image": {"repository": "churn", "tag": "v1"}}, told)
    assert of_kind("CronJob", found)["spec"]["schedule"] == told["batch"]["schedule"]
    for setting in re.findall(r"--set '?([\w.]+=[^\s'`)]+)", page):
        if "…" not in setting and not setting.startswith("KEY"):
            charting.release("churn", [values.chosen(setting)])


def test_layers_merge_as_helm_merges_them() -> None:
    below = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}
    above = {"a": {"c": [3], "g": {}}, "d": None, "f": {"h": 1, "i": None}}
    assert values.merged([below, above]) == {"a": {"b": 1, "c": [3], "g": {}}, "f": {"h": 1}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{{ lookup "v1" "Pod" "" "" }}', "no function 'lookup'"),
        ("{{ if .Values.a }}", "no end"),
        ("{{ with .Values.a }}{{ end }}", "no function 'with'"),
        ("{{ .Values.a | upper }}", "no function 'upper'"),
        ("{{ .Values.a }} {% raw %}", "Jinja would read this"),
        ("{{ (.Values.a }}", "not closed"),
        ("{{ .Values.a) }}", "a bracket too many"),
        ("{{ .Values.a }}{{ `raw` }}", "not understood"),
    ],
)
def test_what_a_template_may_not_say_is_refused(text: str, words: str) -> None:
    """Whatever is not understood would come out otherwise than with Helm."""
    with pytest.raises(ValueError, match=words):
        Templates([], {}).render(text, {"Values": {"a": 1}})
