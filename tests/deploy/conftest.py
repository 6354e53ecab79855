"""One storage of images for all tests that run containers, and the image of a compiled package."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.ensemble import GradientBoostingClassifier

from foretell.packing import pack
from tests import models
from tests.deploy.podman import Podman, wheel_of_checkout


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    made = Podman(tmp_path_factory.mktemp("podman"))
    made.make_base()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flowers 1.0.0, compiled."""
    folder = tmp_path_factory.mktemp("flowers")
    rows, kinds = models.numbers()
    model = GradientBoostingClassifier(n_estimators=10, random_state=0)
    models.trained(model, rows, kinds)
    package = pack(
        [models.saved(model, folder / "flowers.pkl")],
        name="flowers",
        sample=models.sampled(rows, folder / "flowers.csv"),
        repository=folder / "models",
    )
    assert models.manifest_of(package).steps[0].runtime == "onnx"
    return folder / "models"


@pytest.fixture(scope="session")
def told(
    podman: Podman, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What `foretell image --build` says of the image it has built."""
    wheel = wheel_of_checkout(tmp_path_factory.mktemp("wheel"))
    context = tmp_path_factory.mktemp("out") / "image"
    return podman.build(repository, wheel, "flowers:test", context)


@pytest.fixture(scope="session")
def image(told: dict[str, Any]) -> str:
    tag: str = told["tag"]
    return tag
