"""Manifests: written, read back, and refused when they are wrong or unsafe."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from foretell.core.datatype import Datatype
from foretell.core.field import Field
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


FULL = Signature(
    (
        Field("age", Datatype.FP64, nullable=True, minimum=-5.5, maximum=200),
        Field("plan", Datatype.BYTES, categories=("a", "b"), closed=True),
        Field("vector", Datatype.FP32, shape=(2,)),
    ),
    (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64, shape=(2,))),
    class_labels=("no", "yes"),
    example=(35.0, "a", [1.0, 2.0]),
)


def full() -> dict[str, Any]:
    text = manifest(
        signature=FULL,
        trusted=True,
        metadata={"owner": "me"},
        compile_report={"served": "onnx"},
        baseline={"rows": 3},
    ).to_text()
    told: dict[str, Any] = json.loads(text)
    return told


def key_paths(told: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path to a value in `told`."""
    if path:
        yield path
    if isinstance(told, dict):
        for key, value in told.items():
            yield from key_paths(value, (*path, key))
    if isinstance(told, list):
        for place, value in enumerate(told):
            yield from key_paths(value, (*path, place))


FREE = {"metadata", "compile_report", "baseline", "options"}  # what is in these is their maker's
NULLABLE = {"compile_report", "baseline", "example", "class_labels"}


def is_allowed(path: tuple[Any, ...], value: Any, before: Any) -> bool:
    """Whether `value` may stand for `before` at `path` of a manifest."""
    if FREE & set(path[:-1]) or (value is None and path[-1] in NULLABLE):
        return True
    if path[:2] == ("signature", "class_labels"):
        return isinstance(value, list if len(path) == 2 else bool | int | str)
    if path == ("signature", "example", 0) and value is None:
        return True  # the field is nullable
    if isinstance(before, bool) or isinstance(value, bool):
        return type(before) is type(value)
    if isinstance(before, int | float):
        return isinstance(value, int | float)
    return type(before) is type(value)


def replaced(told: Any, path: tuple[Any, ...], value: Any) -> Any:
    inner = told
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return told


def value_at(told: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        told = told[key]
    return told


@pytest.mark.parametrize("value", [None, 5, "x", [], {}, True], ids=repr)
def test_a_value_of_another_type_is_a_bad_package_wherever_it_stands(value: Any) -> None:
    for path in key_paths(full()):
        try:
            Manifest.from_text(json.dumps(replaced(full(), path, value)))
        except BadPackage as error:
            told = error.message
            assert len(told.splitlines()) == 1, path
        else:
            assert is_allowed(path, value, value_at(full(), path)), path


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("trusted",), "false", "'trusted' .* is 'false', but must be true or false"),
        (("trusted",), 0, "must be true or false"),
        (("created_at",), "yesterday", "must be a time in UTC"),
        (("created_at",), "2026-13-01T00:00:00Z", "must be a time in UTC"),
        (("created_at",), "2026-01-01T00:00:00+02:00", "must be a time in UTC"),
        (("created_at",), "2026-01-01T00:00:00Z\x1b[2J", "control characters"),
        (("files", 0, "sha256"), "g" * 64, "64 hex digits"),
        (("files", 0, "sha256"), "0" * 63, "64 hex digits"),
        (("files", 0, "size"), -1, "must not be negative"),
        (("files", 0, "size"), 1.5, "must be a whole number"),
        (("files", 0, "path"), "a\nb", "control characters"),
        (("files", 0, "path"), "\ud800", "control characters"),
        (("steps", 0, "colour"), 1, "unknown key 'colour'"),
        (("files", 0, "colour"), 1, "unknown key 'colour'"),
        (("signature", "colour"), 1, "unknown key 'colour'"),
        (("signature", "inputs", 0, "name"), "a\x1b[31m", "control characters"),
        (("signature", "outputs", 0, "name"), "a\x85", "control characters"),
        (("signature", "inputs", 0, "nullable"), "false", "must be true or false"),
        (("signature", "inputs", 0, "maximum"), 10**400, "must be a finite number"),
        (("signature", "inputs", 0, "name"), "", "needs a name"),
        (("signature", "inputs", 1, "categories"), [3], "unreadable"),
        (("signature", "inputs", 2, "shape"), [2.0], "whole number"),
        (("signature", "example"), [35.0, "nothing", [1.0, 2.0]], "example .* does not fit"),
        (("libraries", "numpy"), "2\x07", "control characters"),
    ],
)
def test_a_wrong_value_is_refused_in_words(path: tuple[Any, ...], value: Any, said: str) -> None:
    with pytest.raises(BadPackage, match=said):
        Manifest.from_text(json.dumps(replaced(full(), path, value)))


def test_times_with_fractions_are_times() -> None:
    told = replaced(full(), ("created_at",), "2026-01-31T23:59:60.123Z")
    assert Manifest.from_text(json.dumps(told)).created_at == "2026-01-31T23:59:60.123Z"


@pytest.mark.parametrize("value", [float("nan"), object(), b"raw", "\ud800"])
def test_what_json_cannot_hold_is_a_bad_package(value: object) -> None:
    with pytest.raises(BadPackage, match=r"model\.json cannot hold"):
        manifest(metadata={"x": value}).to_text()
    with pytest.raises(BadPackage, match="is not JSON"):
        Manifest.from_text(manifest(metadata={"x": 1}).to_text().replace(": 1\n", ": NaN\n"))


@pytest.mark.parametrize("name", [5, None, ["a"], b"a"])
def test_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(BadPackage, match="must be a string"):
        manifest(name=name)


def test_a_bulk_step_is_kept_and_reads_listed_files_only() -> None:
    made = manifest(bulk=Step("trees", ("model.pkl",), {"casts": ["float32"]}))
    assert Manifest.from_text(made.to_text()) == made
    with pytest.raises(BadPackage, match="not listed"):
        manifest(bulk=Step("trees", ("other.npz",)))
