"""Messages that may have killed a process: which of them are poison, and which had bad luck."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from foretell.core.batch import Batch
from foretell.engine import fleet
from foretell.engine.executors import Outcome, ProcessDied, attempt
from foretell.engine.executors.choosing import ExecutorKind
from foretell.engine.repository import read
from foretell.packing import pack
from foretell.transports.stream.careful import Careful
from foretell.transports.stream.message import Message
from foretell.transports.stream.scoring import Choices, Scored, Scorer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> fleet.Loaded:
    folder, here = tmp_path_factory.mktemp("careful"), Path(__file__).parent
    package = pack(["moody_model:Moody"], name="moody", repository=folder, python_path=here)
    return fleet.load(read(package), kind=ExecutorKind.INLINE)


class Elsewhere:
    """An executor whose process dies of x = -666, and `unlucky` times of nothing."""

    places, most_rows = 1, None

    def __init__(self, loaded: fleet.Loaded, unlucky: int = 0) -> None:
        self.predict, self.unlucky, self.asked = loaded.predict, unlucky, 0

    def _predict(self, batch: Batch) -> Batch:
        self.asked += 1
        xs = [row[0] for row in batch.rows]
        if 13 in xs:
            raise RuntimeError("unlucky")
        if -666 in xs or self.unlucky > 0:
            self.unlucky -= 1
            raise ProcessDied("it died")
        return self.predict(batch)

    def run(self, batches: Sequence[Batch]) -> list[Outcome]:
        return attempt(self._predict, batches)

    def close(self) -> None:
        """Nothing is held."""


def scored(loaded: fleet.Loaded, process: Elsewhere, *xs: int, deliveries: int = 2) -> Scored:
    careful = Careful(Scorer(loaded, Choices()), lambda: process, attempts=2)
    told = [
        Message(f"m:{number}", json.dumps({"x": x, "y": 2}).encode(), deliveries=deliveries)
        for number, x in enumerate(xs)
    ]
    return asyncio.run(careful.score(told))


def test_what_dies_in_one_half_of_a_batch_that_fails_is_tried_alone(loaded: fleet.Loaded) -> None:
    found = scored(loaded, Elsewhere(loaded), 1, 13, -666, 3)
    assert [json.loads(record.value)["prediction"] for record in found.results] == [1, 0]
    letters = [json.loads(record.value) for record in found.dead]
    assert [(one["position"], one["code"], one["attempts"]) for one in letters] == [
        ("m:1", "model_failed", 1),
        ("m:2", "poison", 2),
    ]


def test_a_process_that_dies_once_makes_nothing_poison(loaded: fleet.Loaded) -> None:
    found = scored(loaded, Elsewhere(loaded, unlucky=2), 1, 2, 3)
    assert (len(found.results), found.dead) == (3, [])


def test_what_nobody_had_before_is_scored_here(loaded: fleet.Loaded) -> None:
    process = Elsewhere(loaded)
    found = scored(loaded, process, 1, 13, deliveries=1)
    assert (len(found.results), len(found.dead), process.asked) == (1, 1, 0)
