"""Rendering an image: what is locked, what the Dockerfile says, what goes into the context."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import FILENAME, Artifact, Manifest, Step
from foretell.core.signature import Signature
from foretell.deploy import building, context
from foretell.deploy.image import Image, Model
from foretell.deploy.locking import lock
from foretell.errors import BadPackage, BadSettings, MissingExtra, StartFailed

ROOT = Path(__file__).parents[2]
SIGNATURE = Signature((Field("age", Datatype.FP64),), (Field("prediction", Datatype.FP64),))
NUMPY = metadata.version("numpy")
METADATA = """Metadata-Version: 2.4
Name: foretell
Version: 7.1.0
Provides-Extra: bulk
Provides-Extra: other
Requires-Dist: numpy>=2
Requires-Dist: rich>=14
Requires-Dist: nowhere; sys_platform == 'win32'
Requires-Dist: typer; extra == 'bulk'
Requires-Dist: nowhere; extra == 'other'
"""


def made_wheel(folder: Path, text: str = METADATA, name: str = "foretell") -> Path:
    path = folder / f"{name}-7.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-7.1.0.dist-info/METADATA", text)
    return path


def made_model(
    folder: Path, name: str = "churn", version: str = "1.0.0", **libraries: str
) -> Model:
    """A package of one file that says it was made with `libraries` (_ stands for -)."""
    place = folder / name / version
    place.mkdir(parents=True)
    (place / "sub").mkdir()
    (place / "sub" / "model.bin").write_bytes(b"123")
    (place / "sub" / "model.bin").chmod(0o600)
    (place / "stray.txt").write_text("not listed")
    manifest = Manifest(
        name=name,
        version=version,
        created_at="2026-01-01T00:00:00Z",
        signature=SIGNATURE,
        steps=(Step("onnx", ("sub/model.bin",)),),
        files=(Artifact("sub/model.bin", hashlib.sha256(b"123").hexdigest(), 3),),
        libraries={
            "python": "3.11.2",
            "foretell": "0.0.1",
            **{library.replace("_", "-"): told for library, told in libraries.items()},
        },
    )
    (place / FILENAME).write_text(manifest.to_text())
    return Model.of(place, manifest)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return made_wheel(tmp_path)


@pytest.fixture
def image(tmp_path: Path, wheel: Path) -> Image:
    return Image((made_model(tmp_path),), {"numpy": "2.0.0"}, wheel, base="debian:12")


# --- the lock ---


def test_a_lock_follows_requirements_through_what_is_installed(wheel: Path) -> None:
    locked = lock([], extras=(), wheel=wheel)
    assert locked["numpy"] == NUMPY
    assert locked["pygments"] == metadata.version("pygments")  # rich needs it
    assert "foretell" not in locked  # the wheel brings it
    assert "typer" not in locked


def test_a_lock_takes_the_extras_that_are_asked_for(wheel: Path) -> None:
    assert "typer" in lock([], extras=["bulk"], wheel=wheel)
    with pytest.raises(BadSettings, match="no extra 'bulky', there are bulk, other"):
        lock([], extras=["bulky"], wheel=wheel)


def test_a_recorded_version_goes_before_the_installed_one(tmp_path: Path, wheel: Path) -> None:
    model = made_model(tmp_path, numpy="2.0.1", scikit_learn="1.5.2")
    locked = lock([model], extras=(), wheel=wheel)
    assert (locked["numpy"], locked["scikit-learn"]) == ("2.0.1", "1.5.2")
    assert locked["scipy"] == metadata.version("scipy")  # scikit-learn needs it
    assert not {"python", "foretell"} & set(locked)


def test_the_small_xgboost_stands_in_for_the_large_one(tmp_path: Path, wheel: Path) -> None:
    locked = lock([made_model(tmp_path, xgboost="3.0.1")], extras=(), wheel=wheel)
    assert locked["xgboost-cpu"] == "3.0.1"
    assert "xgboost" not in locked  # it needs what is not installed here


@pytest.mark.parametrize("version", ["2.0 --extra-index-url http://evil", "2.0; 1", "", "*"])
def test_a_recorded_version_is_no_way_to_tell_pip_more(
    tmp_path: Path, wheel: Path, version: str
) -> None:
    with pytest.raises(BadPackage, match="no version"):
        lock([made_model(tmp_path, numpy=version)], extras=(), wheel=wheel)


def test_packages_that_disagree_share_no_image(tmp_path: Path, wheel: Path) -> None:
    both = [
        made_model(tmp_path, "a", numpy="2.0.1"),
        made_model(tmp_path, "b", numpy="2.1.0"),
    ]
    with pytest.raises(BadSettings, match=r"a/1.0.0 was packed with numpy 2.0.1, b/1.0.0 with"):
        lock(both, extras=(), wheel=wheel)


def test_what_is_not_installed_has_no_version_to_guess(wheel: Path) -> None:
    with pytest.raises(MissingExtra, match="pip install nowhere"):
        lock([], extras=["other"], wheel=wheel)


def test_foretell_from_sources_needs_its_wheel() -> None:
    with pytest.raises(BadSettings, match="--wheel"):  # the tests' own one is installed so
        lock([], extras=(), wheel=None)


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    other = made_wheel(tmp_path, METADATA.replace("Name: foretell", "Name: fortune"), "fortune")
    spaced = made_wheel(tmp_path, name="foretell -7")
    for path in (other, spaced, tmp_path / "none.whl", Path(__file__)):
        with pytest.raises(BadSettings, match="wheel"):
            lock([], extras=(), wheel=path)


# --- the Dockerfile and its context ---


def test_the_context_holds_what_the_image_needs_readable_by_its_user(
    tmp_path: Path, image: Image
) -> None:
    before = os.umask(0o077)
    try:
        context.write(image, tmp_path / "out" / "image")
    finally:
        os.umask(before)
    folder = tmp_path / "out" / "image"
    held = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    files = {name for name, path in held.items() if path.is_file()}
    package = "models/churn/1.0.0"
    assert files == {
        "Dockerfile",
        ".dockerignore",
        "requirements.txt",
        "foretell-7.1.0-py3-none-any.whl",
        f"{package}/{FILENAME}",
        f"{package}/sub/model.bin",  # what the manifest does not list stays out
    }
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in held.items()}
    shared = {name: mode for name, mode in modes.items() if name.startswith("models")}
    assert {mode for name, mode in shared.items() if held[name].is_file()} == {0o644}
    assert {mode for name, mode in shared.items() if held[name].is_dir()} == {0o755}
    assert held["requirements.txt"].read_text() == "numpy==2.0.0\n"
    assert [path.name for path in folder.parent.iterdir()] == ["image"]


def test_a_context_takes_the_place_of_an_older_one_only(tmp_path: Path, image: Image) -> None:
    folder = tmp_path / "image"
    context.write(image, folder)
    (folder / "models" / "left.txt").write_text("of the older one")
    context.write(replace(image, mounted=True), folder)
    assert not (folder / "models").exists()
    other = tmp_path / "mine"
    other.mkdir()
    context.write(image, other)  # an empty folder is nobody's
    (other / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(BadSettings, match="--output"):
        context.write(image, other)
    assert (other / "Dockerfile").read_text() == "FROM scratch\n"


def test_labels_tell_the_digest_of_the_package(image: Image) -> None:
    text = context.dockerfile(image)
    digest = image.models[0].digest
    assert f'LABEL foretell.package.digest="{digest}"' in text
    assert f'LABEL foretell.packages="churn/1.0.0@{digest}"' in text
    assert image.tag == "churn:1.0.0"


def test_an_image_with_mounted_models_claims_none(image: Image) -> None:
    mounted = replace(image, mounted=True)
    text = context.dockerfile(mounted)
    assert "churn" not in text
    assert "COPY models" not in text
    assert "models" not in context.dockerignore(mounted)
    assert mounted.tag is None


def test_names_that_registries_refuse_are_spelt_otherwise(tmp_path: Path) -> None:
    image = Image((made_model(tmp_path, "Churn", "1.0+b3"),), {})
    assert image.tag == "churn:1.0-b3"


@pytest.mark.parametrize("base", ["", "a b", "a\nUSER root", '"', "$x"])
def test_a_base_cannot_write_into_the_dockerfile(base: str) -> None:
    with pytest.raises(BadSettings, match="base image"):
        Image((), {}, base=base)


@pytest.mark.parametrize(
    "changed",
    [{}, {"mounted": True}, {"wheel": None}, {"locked": {"lightgbm": "4.7.0"}}],
    ids=str,
)
def test_hadolint_finds_nothing(tmp_path: Path, image: Image, changed: dict[str, Any]) -> None:
    context.write(replace(image, **changed), tmp_path / "image")
    assert linted(tmp_path / "image" / "Dockerfile") == (0, "")


def test_lightgbm_gets_the_library_that_slim_bases_lack(image: Image) -> None:
    assert "libgomp1" not in context.dockerfile(image)
    assert "libgomp1" in context.dockerfile(replace(image, locked={"lightgbm": "4.7.0"}))


def test_the_dockerfile_of_the_project_ends_as_that_of_an_image_with_mounted_models() -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = "FROM ${BASE_IMAGE}\n"
    rendered = context.dockerfile(Image((), {}, mounted=True))
    assert text[text.index(last) :] == rendered[rendered.index(last) :]
    assert f"cyclonedx-bom=={context.CYCLONEDX} " in text
    assert linted(ROOT / "Dockerfile") == (0, "")


def linted(dockerfile: Path) -> tuple[int, str]:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=places)
    assert hadolint is not None, "install the group dev: hadolint is missing"
    done = subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


# --- builders ---


def answering(**answers: building.Answer) -> building.Asks:
    return lambda command: answers.get(command[0])


def test_the_first_builder_that_answers_builds() -> None:
    ask = answering(docker=(1, "no daemon"), podman=(0, "amd64"), buildah=(0, "{}"))
    podman = building.find(ask)
    assert podman.command(Path("image"), "churn:1", ["--pull"]) == [
        *("podman", "build", "--format", "docker", "--tag", "churn:1", "--pull", "image")
    ]
    assert building.find(answering(docker=(0, "28.2"), podman=(0, "amd64"))).name == "docker"


def test_without_a_builder_the_error_names_what_to_do() -> None:
    with pytest.raises(StartFailed, match="install one of docker, podman, buildah"):
        building.find(answering())
    with pytest.raises(StartFailed, match=r"docker is installed, but does not answer \(no daemon"):
        building.find(answering(docker=(1, "no daemon")))


def test_a_build_that_fails_tells_what_the_builder_said(tmp_path: Path) -> None:
    script = tmp_path / "builder"
    script.write_text("#!/bin/sh\necho no such base >&2\nexit 125\n")
    script.chmod(0o755)
    broken = building.Builder(str(script), ("build",), ())
    with pytest.raises(StartFailed, match=r"ended with 125.*\nno such base"):
        building.build(broken, tmp_path, "churn:1", more=(), quiet=True)
    with pytest.raises(BadSettings, match="no name of an image"):
        building.build(broken, tmp_path, "--privileged", more=(), quiet=True)


# --- the command ---


@pytest.mark.slow
def test_the_command_writes_and_reports(tmp_path: Path, wheel: Path) -> None:
    model = made_model(tmp_path / "models", numpy="2.0.1")
    words = ("image", tmp_path / "models", "--wheel", wheel, "-o", tmp_path / "image")
    told = json.loads(run(*words, "--json").stdout)
    assert told["packages"] == [{"name": "churn", "version": "1.0.0", "digest": model.digest}]
    assert told["requirements"]["numpy"] == "2.0.1"
    assert (told["tag"], told["builder"]) == ("churn:1.0.0", None)
    assert "numpy==2.0.1\n" in (tmp_path / "image" / "requirements.txt").read_text()
    shown = run(*words).stdout  # over the one from before
    assert f"docker build -t churn:1.0.0 {tmp_path / 'image'}" in shown.replace("\n", " ")


def test_an_altered_package_goes_into_no_image(tmp_path: Path, wheel: Path) -> None:
    model = made_model(tmp_path)
    (model.folder / "sub" / "model.bin").write_bytes(b"321")
    ended = run("image", model.folder, "--wheel", wheel, "-o", tmp_path / "image", "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["code"] == "bad_package"
    assert not (tmp_path / "image").exists()


def test_mounted_models_need_a_name_for_their_image(tmp_path: Path, wheel: Path) -> None:
    model = made_model(tmp_path)
    words = ("image", model.folder, "--wheel", wheel, "-o", tmp_path / "image", "--mount-models")
    ended = run(*words, "--build")
    assert (ended.returncode, "-t NAME" in ended.stderr) == (2, True)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foretell", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
