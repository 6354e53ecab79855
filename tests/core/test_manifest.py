"""Manifests: written, read back, and refused when they are wrong or unsafe."""

import json
from typing import Any

import pytest

from foretell.core.field import Datatype, Field
from foretell.core.manifest import Artifact, Manifest, Step
from foretell.core.routing import newest, version_key
from foretell.core.signature import Signature
from foretell.errors import BadPackage

SIGNATURE = Signature(
    (Field("age", Datatype.FP64), Field("plan", Datatype.BYTES, categories=("a",), closed=True)),
    (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64, shape=(2,))),
    class_labels=(0, 1),
    example=(35.0, "a"),
)


def manifest(**changes: Any) -> Manifest:
    parts: dict[str, Any] = {
        "name": "churn",
        "version": "1.0.0",
        "created_at": "2026-01-01T00:00:00Z",
        "signature": SIGNATURE,
        "steps": (Step("sklearn", ("scaler.pkl",)), Step("sklearn", ("model.pkl",), {"x": 1})),
        "files": (Artifact("scaler.pkl", "0" * 64, 10), Artifact("model.pkl", "1" * 64, 20)),
        "libraries": {"numpy": "2.0"},
    }
    return Manifest(**(parts | changes))


def test_a_manifest_survives_its_text() -> None:
    assert Manifest.from_text(manifest().to_text()) == manifest()


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "ü", "a" * 129, "-x"])
def test_names_that_are_unsafe_in_paths_or_urls_are_refused(name: str) -> None:
    with pytest.raises(BadPackage, match="not usable"):
        manifest(name=name)
    with pytest.raises(BadPackage, match="not usable"):
        manifest(version=name)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", ""])
def test_artifacts_cannot_leave_their_package(path: str) -> None:
    with pytest.raises(BadPackage, match="leaves the package"):
        Artifact(path, "0" * 64, 1)


def test_a_step_reads_listed_files_only() -> None:
    with pytest.raises(BadPackage, match="not listed"):
        manifest(steps=(Step("sklearn", ("other.pkl",)),))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(schema_version=2), "schema version 2"),
        (lambda told: told.update(colour="red"), "unknown key 'colour'"),
        (lambda told: told.pop("signature"), "unreadable"),
        (lambda told: told.update(files=[{"path": "x"}]), "unreadable"),
        (lambda told: told.update(steps=[]), "no steps"),
        (lambda told: told.update(steps=3), "unreadable"),
    ],
)
def test_a_wrong_manifest_is_refused_in_words(change: Any, words: str) -> None:
    told = json.loads(manifest().to_text())
    change(told)
    with pytest.raises(BadPackage, match=words):
        Manifest.from_text(json.dumps(told))


@pytest.mark.parametrize("text", ["", "[1]", "{", "nonsense", '"' * 3, "[" * 100_000])
def test_garbage_is_a_bad_package(text: str) -> None:
    with pytest.raises(BadPackage):
        Manifest.from_text(text)


def test_versions_are_ordered_as_people_read_them() -> None:
    ordered = ["0.9", "1.0.0-rc1", "1.0.0", "1.0.0+7", "1.9.2", "1.10.0", "v2", "10"]
    as_text = sorted(ordered)
    assert sorted(as_text, key=version_key) == ordered
    assert newest(["1.9.2", "1.10.0", "1.10.0-rc2"]) == "1.10.0"
